"""
The option table.

Every option has one row in `OPTIONS` and up to three spellings: `--jmp-x` on the command line, `jmp_x` in the ini file,
and a variable of Jumpstarter if there is one. `settings` has the values in force.
"""

# No annotations from __future__: a NamedTuple would compile each of its annotations, in every run.

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

DEFAULT_ROLE = "dut"
SHORTEST_TTL = 5.0
SCOPES = ("session", "package", "module", "class", "function")


def parse_duration(text: str) -> float:
    """Return the seconds of a duration; the parser is imported only if a duration is set (see `durations`)."""
    from pytest_jumpstarter import durations

    return durations.parse_duration(text)


def checked_selector(text: str) -> str:
    """
    Return `text` unchanged.

    Raises:
        SelectorError: It is not a label selector.
    """
    from pytest_jumpstarter.selector import Selector

    Selector.parse(text)
    return text


def _scope(text: str) -> str:
    if text not in SCOPES:
        raise ValueError(f"{text!r} is not a scope; choose from {', '.join(SCOPES)}")
    return text


def _no_device(text: str) -> str:
    if text not in ("fail", "skip"):
        raise ValueError(f"{text!r} is neither fail nor skip")
    return text


def _report(text: str) -> Path:
    path = Path(text)
    if path.suffix not in (".json", ".html", ".md"):
        raise ValueError(f"{text!r} must end in .json, .html or .md")
    return path


def _switch(text: str) -> str:
    if text not in ("on", "off"):
        raise ValueError(f"{text!r} is neither on nor off")
    return text


def _folder(text: str) -> Path:
    return Path(_not_empty(text))


def _pattern(text: str) -> str:
    try:
        re.compile(_not_empty(text))
    except re.error as exc:
        raise ValueError(f"{text!r} is not a regular expression: {exc}") from None
    return text


def _console(text: str) -> str:
    if text not in ("on", "off", "retain-on-failure"):
        raise ValueError(f"{text!r} is not one of on, off and retain-on-failure")
    return text


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _ttl(text: str) -> float:
    duration = parse_duration(text)
    if duration < SHORTEST_TTL:
        raise ValueError(f"{text!r} is too short: leases are extended after a third of this time, so use at least 5s")
    return duration


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", text):
        raise ValueError(f"{text!r} is not a valid name in a lab (lower-case letters, digits, '-' and '.')")
    return text


def _address(text: str) -> str:
    if not re.fullmatch(r"(grpc://)?([^\s:/@\[\]]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", text):
        raise ValueError(f"{text!r} is not HOST:PORT, or grpc://HOST:PORT for plain text")
    return text


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("the value is empty")
    return text


class Option(NamedTuple):  # a third of a dataclass's cost at import, which every run pays
    """
    One row of the option table.

    Attributes:
        name: The part of the flag after `--jmp-`.
        metavar: The placeholder for the value in the help.
        help: One phrase for `pytest --help`.
        parse: Converts the text to the value; raises ValueError or SelectorError.
        default: The default as a user would write it; None if there is none.
        variable: Jumpstarter's environment variable for the same setting; empty if there is none.
        is_for_roles: Whether `ROLE:` may precede the value.
        is_path: Whether an ini value is a path relative to the folder of the ini file.
        is_repeatable: Whether several values may be in force; they all come from the same place.
    """

    name: str
    metavar: str
    help: str
    parse: Callable[[str], Any] = _not_empty
    default: str | None = None
    variable: str = ""
    is_for_roles: bool = False
    is_path: bool = False
    is_repeatable: bool = False

    @property
    def flag(self) -> str:
        """The spelling on the command line."""
        return f"--jmp-{self.name}"

    @property
    def ini(self) -> str:
        """The spelling in the ini file, and the name under which pytest keeps the command line's value."""
        return f"jmp_{self.name.replace('-', '_')}"

    @property
    def takes_many(self) -> bool:
        """Whether it may be given several times."""
        return self.is_for_roles or self.is_repeatable


OPTIONS = (
    Option(
        name="selector",
        metavar="[ROLE:]SELECTOR",
        help="Label selector to lease by, such as board=rpi4",
        parse=checked_selector,
        is_for_roles=True,
    ),
    Option(
        name="exporter",
        metavar="[ROLE:]NAME",
        help="Lease exactly this exporter",
        parse=_name,
        is_for_roles=True,
    ),
    Option(
        name="lease",
        metavar="[ROLE:]NAME",
        help="Use this existing lease, and never release it",
        parse=_name,
        variable="JMP_LEASE",
        is_for_roles=True,
    ),
    Option(
        name="client",
        metavar="ALIAS-OR-FILE",
        help="Client config to use instead of the current client",
    ),
    Option(
        name="lab",
        metavar="FILE-OR-FOLDER",
        help="Start the embedded lab from these exporter configs and use it",
        is_path=True,
    ),
    Option(
        name="direct",
        metavar="HOST:PORT",
        help="Use the exporter at this address, without a lab; grpc://HOST:PORT for plain text instead of TLS",
        parse=_address,
    ),
    Option(
        name="direct-ca",
        metavar="FILE",
        help="Certificate authority (PEM) for --jmp-direct, instead of those of the system",
        is_path=True,
    ),
    Option(
        name="wait",
        metavar="DURATION",
        help="Longest wait in the queue, such as 90s, 15m or 1h30m (default: 30m)",
        parse=parse_duration,
        default="30m",
    ),
    Option(
        name="ttl",
        metavar="DURATION",
        help="How long a board can stay leased after this process dies; at least 5s (default: 2m)",
        parse=_ttl,
        default="2m",
    ),
    Option(
        name="max-hold",
        metavar="DURATION",
        help="Never hold a lease longer than this",
        parse=parse_duration,
    ),
    Option(
        name="no-device",
        metavar="fail|skip",
        help="Result of a test whose device is not available within --jmp-wait (default: fail)",
        parse=_no_device,
        default="fail",
    ),
    Option(
        name="scope",
        metavar="SCOPE",
        help="Scope of dut, and of each device_fixture without a scope (default: session)",
        parse=_scope,
        default="session",
    ),
    Option(
        name="each",
        metavar="[ROLE:]SELECTOR",
        help="Run the tests once on every exporter that matches",
        parse=checked_selector,
        is_for_roles=True,
    ),
    Option(
        name="order",
        metavar="on|off",
        help="Run tests without devices first, then the others grouped by device (default: on)",
        parse=_switch,
        default="on",
    ),
    Option(
        name="retries",
        metavar="N",
        help="On a device error, run the test again on another exporter, up to N times (default: 0)",
        parse=_count,
        default="0",
    ),
    Option(
        name="report",
        metavar="FILE.html|FILE.json|FILE.md",
        help="Write a report of what happened on which board, and when; repeatable",
        parse=_report,
        is_path=True,
        is_repeatable=True,
    ),
    Option(
        name="console",
        metavar="on|off|retain-on-failure",
        help="Keep console logs in --jmp-artifacts: of all tests, of none, or of tests that fail (default); "
        "if set, on and retain-on-failure also record consoles from the start of the lease, not only from first use",
        parse=_console,
        default="retain-on-failure",
    ),
    Option(
        name="artifacts",
        metavar="DIR",
        help="Write a folder of evidence for each failed test with a device to this directory",
        parse=_folder,
        is_path=True,
    ),
    Option(
        name="console-fatal",
        metavar="REGEX",
        help="Console output that ends a waiting expect at once, instead of the built-in patterns (kernel panic, Oops, "
        "HardFault, watchdog); off for none; repeatable",
        parse=_pattern,
        is_repeatable=True,
    ),
    Option(
        name="hold-on-failure",
        metavar="DURATION",
        help="After the first test failure on a device, keep its lease for this time, print how to connect to it, and "
        "end the run",
        parse=parse_duration,
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Declare every option of the table, on the command line and in the ini file."""
    group = parser.getgroup("jumpstarter", "devices leased from a Jumpstarter lab")
    for option in OPTIONS:
        kind: Literal["linelist", "string"] = "linelist" if option.takes_many else "string"
        group.addoption(
            option.flag,
            dest=option.ini,
            metavar=option.metavar,
            action="append" if option.takes_many else "store",
            default=None,
            help=option.help,
        )
        parser.addini(
            option.ini,
            f"As {option.flag}{', one a line' if option.takes_many else ''}: {option.help}",
            type=kind,
            default=None,
        )

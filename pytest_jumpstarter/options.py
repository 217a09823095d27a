"""
The option table.

Every option has one row in `OPTIONS` and up to three spellings: `--jmp-x` on the command line, `jmp_x` in the ini file,
and a variable of Jumpstarter's own where it has one. What is in force of them is in `settings`.
"""

# No annotations from __future__: a NamedTuple would compile each of its own, in every run.

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

DEFAULT_ROLE = "dut"
SHORTEST_TTL = 5.0
SCOPES = ("session", "package", "module", "class", "function")


def parse_duration(text: str) -> float:
    """Return the seconds of a duration; what parses it is imported only where one is given, see `durations`."""
    from pytest_jumpstarter import durations

    return durations.parse_duration(text)


def checked_selector(text: str) -> str:
    """
    Return `text` as it was written.

    Raises:
        SelectorError: It is no label selector.
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
        raise ValueError(f"{text!r} ends in none of .json, .html and .md, which say what to write")
    return path


def _switch(text: str) -> str:
    if text not in ("on", "off"):
        raise ValueError(f"{text!r} is neither on nor off")
    return text


def _folder(text: str) -> Path:
    return Path(_some(text))


def _pattern(text: str) -> str:
    try:
        re.compile(_some(text))
    except re.error as exc:
        raise ValueError(f"{text!r} is not a regular expression: {exc}") from None
    return text


def _console(text: str) -> str:
    if text not in ("on", "off", "retain-on-failure"):
        raise ValueError(f"{text!r} is none of on, off and retain-on-failure")
    return text


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a number of times")
    return int(text)


def _ttl(text: str) -> float:
    duration = parse_duration(text)
    if duration < SHORTEST_TTL:
        raise ValueError(f"{text!r} is too short: a lease is extended every third of it, so give at least 5s")
    return duration


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", text):
        raise ValueError(f"{text!r} cannot be a name in a lab (lower-case letters, digits, '-' and '.')")
    return text


def _address(text: str) -> str:
    if not re.fullmatch(r"(grpc://)?([^\s:/@\[\]]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", text):
        raise ValueError(f"{text!r} is not HOST:PORT, or grpc://HOST:PORT for plain text")
    return text


def _some(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty")
    return text


class Option(NamedTuple):  # a third of a dataclass's cost at import, which every run pays
    """
    One row of the option table.

    Attributes:
        name: The word after `--jmp-`.
        metavar: What the help shows for the value.
        help: One phrase for `pytest --help`.
        parse: Turns text into the value; raises ValueError or SelectorError with what is wrong.
        default: As a user would write it; None if there is none.
        variable: Jumpstarter's own environment variable for the same thing, if it has one.
        is_for_roles: Whether the value may be aimed at a role.
        is_path: Whether an ini value is a path beside the ini file.
        is_repeatable: Whether several values count, all from the strongest place that has any.
    """

    name: str
    metavar: str
    help: str
    parse: Callable[[str], Any] = _some
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
        help="Use the one exporter there, without a lab; grpc://HOST:PORT for plain text instead of TLS",
        parse=_address,
    ),
    Option(
        name="direct-ca",
        metavar="FILE",
        help="Certificate authority of --jmp-direct, as PEM, instead of the system's",
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
        help="How long a board can stay leased after this process dies, at least 5s (default: 2m)",
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
        name="call-timeout",
        metavar="DURATION",
        help="Longest time for one driver call; a call that takes longer raises a TimeoutError (default: no limit)",
        parse=parse_duration,
    ),
    Option(
        name="no-device",
        metavar="fail|skip",
        help="What a test gets when no device is to be had in time (default: fail)",
        parse=_no_device,
        default="fail",
    ),
    Option(
        name="scope",
        metavar="SCOPE",
        help="Scope of dut, and of a device_fixture that names none (default: session)",
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
        help="Run tests without devices first, then grouped by device (default: on)",
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
        help="Write what happened on which board, and when; may be given several times",
        parse=_report,
        is_path=True,
        is_repeatable=True,
    ),
    Option(
        name="console",
        metavar="on|off|retain-on-failure",
        help="Which tests' consoles are kept in --jmp-artifacts: all, none, those that fail (default); "
        "where given, on and retain-on-failure read consoles from the start of a lease on, not from their first use",
        parse=_console,
        default="retain-on-failure",
    ),
    Option(
        name="artifacts",
        metavar="DIR",
        help="Keep a folder of evidence there for each test with a device that fails",
        parse=_folder,
        is_path=True,
    ),
    Option(
        name="console-fatal",
        metavar="REGEX",
        help="What on a console ends a waiting expect at once, instead of panics and the like; off: nothing does",
        parse=_pattern,
        is_repeatable=True,
    ),
    Option(
        name="hold-on-failure",
        metavar="DURATION",
        help="After the first failure on a device extend its lease to this, say how to reach it, and end the run",
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

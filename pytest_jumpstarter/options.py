"""
The option table.

Every option has one row in `OPTIONS` and up to three spellings: `--jmp-x` on the command line, `jmp_x` in the ini file,
and a variable of Jumpstarter if there is one. `settings` has the values in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from pytest_jumpstarter.option_values import Kind

DEFAULT_ROLE = "dut"
_SWITCHED = {"true": "on", "false": "off"}
"""The meaning of `true` and `false`, which `[tool.pytest.ini_options]` gives as text."""

SCOPES = ("session", "package", "module", "class", "function")


class Option:  # neither a dataclass nor a NamedTuple, which are slow to create, and every run would pay for it
    """
    One row of the option table.

    Attributes:
        name: The part of the flag after `--jmp-`.
        metavar: The placeholder for the value in the help.
        help: One phrase for `pytest --help`.
        kind: What its value is, unless it has choices.
        choices: The values that there are; empty if any value of its kind may be given.
        default: The default as a user would write it; None if there is none.
        variable: Jumpstarter's environment variable for the same setting; empty if there is none.
        is_for_roles: Whether `ROLE:` may precede the value.
        is_path: Whether an ini value is a path relative to the folder of the ini file.
        is_repeatable: Whether several values may be in force; they all come from the same place.
        is_flag: Whether it takes no value on the command line, where it means `on`.
        flag: The spelling on the command line.
        ini: The spelling in the ini file, and the name under which pytest keeps the command line's value.
    """

    def __init__(
        self,
        name: str,
        metavar: str,
        help: str,  # noqa: A002  (the name that argparse has for it)
        kind: Kind = "text",
        *,
        choices: Sequence[str] = (),
        default: str | None = None,
        variable: str = "",
        is_for_roles: bool = False,
        is_path: bool = False,
        is_repeatable: bool = False,
        is_flag: bool = False,
    ) -> None:
        self.name = name
        self.metavar = metavar
        self.help = help
        self.kind = kind
        self.choices = choices
        self.default = default
        self.variable = variable
        self.is_for_roles = is_for_roles
        self.is_path = is_path
        self.is_repeatable = is_repeatable
        self.is_flag = is_flag
        self.flag = f"--jmp-{name}"
        self.ini = f"jmp_{name.replace('-', '_')}"

    def parse(self, text: str) -> Any:
        """
        Return the value that a text means.

        Raises:
            ValueError, SelectorError: It is no value of this option.
        """
        if self.choices:
            return self._chosen(text)
        from pytest_jumpstarter.option_values import PARSERS  # most runs need none of them

        return PARSERS[self.kind](text)

    @property
    def is_switch(self) -> bool:
        """Whether `true` and `false` are values, too: for `on` and `off`."""
        return "on" in self.choices

    @property
    def takes_many(self) -> bool:
        """Whether it may be given several times."""
        return self.is_for_roles or self.is_repeatable

    def _chosen(self, text: str) -> str:
        found = _SWITCHED.get(text.lower(), text) if self.is_switch else text
        if found not in self.choices:
            *others, last = self.choices
            known = f"not one of {', '.join(others)} and" if len(others) > 1 else f"neither {others[0]} nor"
            raise ValueError(f"{text!r} is {known} {last}")
        return found


OPTIONS = (
    Option(
        name="selector",
        metavar="[ROLE:]SELECTOR",
        help="Label selector to lease by, such as board=rpi4",
        kind="selector",
        is_for_roles=True,
    ),
    Option(
        name="exporter",
        metavar="[ROLE:]NAME",
        help="Lease exactly this exporter",
        kind="name",
        is_for_roles=True,
    ),
    Option(
        name="allow-disabled",
        metavar="",
        help="Lease exporters that are named (--jmp-exporter) even if they are disabled",
        choices=("on", "off"),
        is_flag=True,
    ),
    Option(
        name="lease",
        metavar="[ROLE:]NAME",
        help="Use this existing lease, and never release it",
        kind="name",
        variable="JMP_LEASE",
        is_for_roles=True,
    ),
    Option("client", "ALIAS-OR-FILE", "Client config to use instead of the current client"),
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
        kind="address",
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
        kind="duration",
        default="30m",
    ),
    Option(
        name="ttl",
        metavar="DURATION",
        help="How long a board can stay leased after this process dies; at least 5s (default: 2m)",
        kind="ttl",
        default="2m",
    ),
    Option(name="max-hold", metavar="DURATION", help="Never hold a lease longer than this", kind="duration"),
    Option(
        name="call-timeout",
        metavar="DURATION",
        help="Longest time for one driver call; a call that takes longer raises a TimeoutError (default: no limit)",
        kind="duration",
    ),
    Option(
        name="no-device",
        metavar="fail|skip",
        help="Result of a test whose device is not available within --jmp-wait (default: fail)",
        choices=("fail", "skip"),
        default="fail",
    ),
    Option(
        name="scope",
        metavar="SCOPE",
        help="Scope of dut, and of each device_fixture without a scope (default: session)",
        choices=SCOPES,
        default="session",
    ),
    Option(
        name="each",
        metavar="[ROLE:]SELECTOR",
        help="Run the tests once on every exporter that matches",
        kind="selector",
        is_for_roles=True,
    ),
    Option(
        name="order",
        metavar="on|off|longest",
        help="Run tests without devices first, then the others grouped by device (default: on); longest: with xdist, "
        "inside of these groups also those first that take longest in --jmp-history",
        choices=("on", "off", "longest"),
        default="on",
    ),
    Option(
        name="state",
        metavar="[ROLE:]STATE",
        help="The board is in this board state (@board_state) when its lease begins",
        is_for_roles=True,
    ),
    Option(
        name="retries",
        metavar="N",
        help="On a device error, run the test again on another exporter, up to N times (default: 0)",
        kind="count",
        default="0",
    ),
    Option(
        name="report",
        metavar="FILE.html|FILE.json|FILE.md",
        help="Write a report of what happened on which board, and when; repeatable",
        kind="report",
        is_path=True,
        is_repeatable=True,
    ),
    Option(
        name="metrics",
        metavar="FILE",
        help="Write what the tests recorded by record_metric to this file, in the format OpenMetrics",
        kind="path",
        is_path=True,
    ),
    Option(
        name="history",
        metavar="FILE-OR-FOLDER",
        help="Keep the results of runs in this file, or in this folder with a file for each run, and say whether "
        "failures follow the board or the product",
        kind="path",
        is_path=True,
    ),
    Option(
        name="avoid-unhealthy",
        metavar="",
        help="Lease exporters that have many device errors in --jmp-history only if no other one is free",
        choices=("on", "off"),
        is_flag=True,
    ),
    Option(
        name="console",
        metavar="on|off|retain-on-failure",
        help="Keep console logs in --jmp-artifacts: of all tests, of none, or of tests that fail (default); "
        "if set, on and retain-on-failure also record consoles from the start of the lease, not only from first use",
        choices=("on", "off", "retain-on-failure"),
        default="retain-on-failure",
    ),
    Option(
        name="artifacts",
        metavar="DIR",
        help="Write a folder of evidence for each failed test with a device to this directory",
        kind="path",
        is_path=True,
    ),
    Option(
        name="console-fatal",
        metavar="REGEX",
        help="Console output that ends a waiting expect at once, instead of the built-in patterns (kernel panic, Oops, "
        "HardFault, watchdog, …); off for none; repeatable",
        kind="pattern",
        is_repeatable=True,
    ),
    Option(
        name="console-live",
        metavar="",
        help="Show the lines of all consoles while they come",
        choices=("on", "off"),
        is_flag=True,
    ),
    Option(
        name="console-timeout",
        metavar="DURATION",
        help="Timeout of a console's expect (default: 30s)",
        kind="duration",
        default="30s",
    ),
    Option(
        name="console-escapes",
        metavar="keep|strip",
        help="Whether escape codes, such as colours, stay in what expect searches (default: keep)",
        choices=("keep", "strip"),
        default="keep",
    ),
    Option(
        name="flash",
        metavar="once|always",
        help="Whether dut.flash flashes an image once in a lease, or each time (default: once)",
        choices=("once", "always"),
        default="once",
    ),
    Option(
        name="hold-on-failure",
        metavar="DURATION",
        help="After the first test failure on a device, keep its lease for this time, print how to connect to it, and "
        "end the run",
        kind="duration",
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Declare every option of the table, on the command line and in the ini file."""
    group = parser.getgroup("jumpstarter", "devices leased from a Jumpstarter lab")
    for option in OPTIONS:
        if option.is_flag:
            group.addoption(
                option.flag, dest=option.ini, action="store_const", const="on", default=None, help=option.help
            )
            parser.addini(option.ini, f"As {option.flag} (on or off): {option.help}", type="string", default=None)
            continue
        kind: Literal["linelist", "string"] = "linelist" if option.takes_many else "string"
        action, each = ("append", ", one a line") if option.takes_many else ("store", "")
        group.addoption(
            option.flag, dest=option.ini, metavar=option.metavar, action=action, default=None, help=option.help
        )
        parser.addini(option.ini, f"As {option.flag}{each}: {option.help}", type=kind, default=None)

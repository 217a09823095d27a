"""
The settings of one run: each value in force, with the place it came from.

Command line beats environment beats ini beats default. An option that is aimed at roles takes `[ROLE:]VALUE`, any
number of times; without a role it is for `dut`.
"""

# No annotations from __future__: a NamedTuple would compile each of its own, in every run.

import os
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pytest_jumpstarter.errors import OptionError, SelectorError
from pytest_jumpstarter.options import DEFAULT_ROLE, OPTIONS, Option

_DEFAULT = "default"
_ROLE = r"(?s)([A-Za-z_]\w*):(.*)"


class Setting(NamedTuple):
    """
    One value in force.

    Attributes:
        text: The value as it was written.
        source: Where it was written: `--jmp-wait`, `JMP_LEASE`, `jmp_wait in pytest.ini`, `default`.
        option: What it sets.
        role: Whom it is for; empty where the option is not for roles.
    """

    text: str
    source: str
    option: Option
    role: str = ""

    @property
    def value(self) -> Any:
        """The parsed value; parsed when it is asked for first, so that a run which asks for none pays nothing."""
        return _parsed(self.option.parse, self.text)

    @property
    def is_default(self) -> bool:
        """Whether nobody wrote it anywhere."""
        return self.source == _DEFAULT

    @property
    def is_on_command_line(self) -> bool:
        """Whether it was written there, and so for this very run."""
        return self.source == self.option.flag

    def __str__(self) -> str:
        aim = f"{self.role}:" if self.role not in ("", DEFAULT_ROLE) else ""
        return f"{self.option.name}={aim}{self.text} ({self.source})"


@cache
def _parsed(parse: Callable[[str], Any], text: str) -> Any:
    return parse(text)


class Settings:
    """
    The values in force for one run.

    `settings["wait"]` is a `Setting`; `settings.find("selector", role)` one or None.
    """

    def __init__(self, settings: list[Setting], environ: Mapping[str, str]) -> None:
        self._settings = {
            (setting.option.name, setting.text if setting.option.is_repeatable else setting.role): setting
            for setting in settings
        }
        self.environ = environ

    @classmethod
    def of(cls, config: pytest.Config, environ: Mapping[str, str] = os.environ) -> "Settings":
        """
        Read command line, environment and ini.

        Raises:
            OptionError: A value makes no sense, or two do not together; the message names them and their sources.
        """
        found = _with_one_place([setting for option in OPTIONS for setting in _read(option, config, environ)])
        # The environment's lease is not one of this lab; the one that a shell exports is the shell's own board.
        if environ.get("JUMPSTARTER_HOST") or any(setting.option.name in ("lab", "direct") for setting in found):
            found = [setting for setting in found if setting.source != setting.option.variable]
        settings = cls(list(reversed(found)), environ)  # the first found wins, so it is put in last
        _check_hold(settings, has_workers=bool(config.getoption("tx", default=None)))
        _check_direct(settings)
        return settings

    def __getitem__(self, name: str) -> Setting:
        return self._settings[name, ""]

    def find(self, name: str, role: str = "") -> Setting | None:
        """Return the setting of the option called `name`, for `role` where it is for roles, or None."""
        return self._settings.get((name, role))

    def all(self, name: str) -> list[Setting]:
        """Return the settings of the option called `name`, which may be given several times."""
        return [setting for setting in self._settings.values() if setting.option.name == name]

    def aimed(self) -> list[Setting]:
        """Return the settings that are for roles."""
        return [setting for setting in self._settings.values() if setting.role]

    @property
    def mode(self) -> str:
        """Where devices come from: `lab`, `direct`, `shell` or `lease`, the first that applies."""
        for mode in ("lab", "direct"):
            if self.find(mode):
                return mode
        overrides = any(setting.is_on_command_line for setting in self.aimed())
        if self.environ.get("JUMPSTARTER_HOST") and not overrides:
            return "shell"
        return "lease"

    @property
    def is_any_set(self) -> bool:
        """Whether anything of ours is set at all."""
        settings = self._settings.values()
        return bool(self.environ.get("JUMPSTARTER_HOST")) or not all(setting.is_default for setting in settings)

    def header(self) -> list[str]:
        """Return lines that show every value in force with its source; none where nothing was set."""
        settings = sorted(self._settings.values(), key=lambda setting: OPTIONS.index(setting.option))
        shell = self.environ.get("JUMPSTARTER_HOST")
        if not self.is_any_set:
            return []
        from pytest_jumpstarter.masking import learn_environment, mask

        learn_environment(self.environ)
        values = [f"{self.mode} mode", *([f"JUMPSTARTER_HOST={shell}"] if shell else []), *map(str, settings)]
        return textwrap.wrap(
            mask(f"jumpstarter: {', '.join(values)}"),
            79,
            subsequent_indent="  ",
            break_on_hyphens=False,
            break_long_words=False,
        )


def _with_one_place(found: list[Setting]) -> list[Setting]:
    """Return the settings with only one of lab and direct, the one on the command line."""
    places = [setting for setting in found if setting.option.name in ("lab", "direct")]
    here = [setting for setting in places if setting.is_on_command_line] or places
    if len({setting.option.name for setting in here}) > 1:
        told = " and ".join(f"{setting.source} ({setting.text})" for setting in here)
        raise OptionError(f"{told} are two places to take devices from: leave one out")
    return [setting for setting in found if setting not in places or setting in here]


def _check_hold(settings: Settings, *, has_workers: bool) -> None:
    """Refuse to hold a device where that cannot be."""
    hold = settings.find("hold-on-failure")
    if hold is None or not hold.is_on_command_line:
        return
    if settings.mode == "shell":
        raise OptionError(f"{hold.source}: inside a jmp shell the lease is the shell's, and ends with it")
    if settings.mode == "direct":
        raise OptionError(f"{hold.source}: with --jmp-direct there is no lease to hold")
    if settings.mode == "lab" and has_workers:
        raise OptionError(f"{hold.source}: with --jmp-lab only without xdist (-n), whose processes do not stay")


def _check_direct(settings: Settings) -> None:
    """Refuse what makes no sense beside an exporter without a lab."""
    direct, ca = settings.find("direct"), settings.find("direct-ca")
    if ca is not None and direct is not None and direct.value.startswith("grpc://"):
        raise OptionError(f"{ca.source}: {direct.text} ({direct.source}) is plain text, which has no certificate")
    if ca is not None and direct is None and ca.is_on_command_line:
        raise OptionError(f"{ca.source}: it says how to check the exporter of --jmp-direct, and there is none")
    for setting in settings.aimed() if settings.mode == "direct" else ():
        if setting.option.name in ("lease", "each") and setting.is_on_command_line:
            raise OptionError(f"{setting.source}: with --jmp-direct there is no lab controller, and so no lease")


SETTINGS = pytest.StashKey[Settings]()
"""Where a config keeps the settings in force."""


def _read(option: Option, config: pytest.Config, environ: Mapping[str, str]) -> Iterator[Setting]:
    """Yield what is set for `option`, strongest first."""
    strongest = ""
    for text, source in _spellings(option, config, environ):
        strongest = strongest or source
        if option.is_repeatable and source != strongest:
            return
        role, value = _split(option, text)
        setting = Setting(text=value, source=source, option=option, role=role)
        if not setting.is_default:
            _check(setting)
        yield setting


def _check(setting: Setting) -> None:
    """Parse what a person wrote, to tell them now if it makes no sense."""
    try:
        _ = setting.value
    except (ValueError, SelectorError) as exc:
        raise OptionError(f"{setting.source}: {exc}") from exc


def _spellings(option: Option, config: pytest.Config, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield (text, source), strongest first."""
    given = config.getoption(option.ini)
    for text in reversed(given if isinstance(given, list) else [given] if given is not None else []):
        yield text, option.flag
    if option.variable and environ.get(option.variable):
        yield environ[option.variable], option.variable
    if ini := config.getini(option.ini):
        for text in ini if isinstance(ini, list) else [ini]:
            beside = str(Path(config.inipath or config.rootpath / "x").parent / text) if option.is_path else text
            yield beside, f"{option.ini} in {config.inipath.name if config.inipath else 'ini'}"
    if option.default is not None:
        yield option.default, _DEFAULT


def _split(option: Option, text: str) -> tuple[str, str]:
    """Return the role that `text` is aimed at, and the value."""
    if not option.is_for_roles:
        return "", text
    return aim(text)


def aim(text: str, default: str = DEFAULT_ROLE) -> tuple[str, str]:
    """Return the role that `[ROLE:]VALUE` is for, and the value."""
    aimed = re.fullmatch(_ROLE, text)
    return (aimed[1], aimed[2].strip()) if aimed else (default, text)

"""
The settings of one run: each value in force, with its source.

The command line wins over the environment, the environment over the ini file, the ini file over the default. An option
for roles takes `[ROLE:]VALUE` and may be repeated; a value without a role is for `dut`.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pytest_jumpstarter.option_errors import OptionError, SelectorError
from pytest_jumpstarter.options import DEFAULT_ROLE, OPTIONS, Option

_DEFAULT = "default"
_ROLE = r"(?s)([A-Za-z_]\w*):(.*)"


class Setting:
    """
    One value in force.

    Attributes:
        text: The value as the user wrote it.
        source: Where it was set: `--jmp-wait`, `JMP_LEASE`, `jmp_wait in pytest.ini`, `default`.
        option: The option that it sets.
        role: The role that it is for; empty if the option is not for roles.
    """

    def __init__(self, *, text: str, source: str, option: Option, role: str) -> None:
        self.text = text
        self.source = source
        self.option = option
        self.role = role

    @property
    def value(self) -> Any:
        """The parsed value; it is parsed on first use, because most runs use few of them."""
        return _parsed(self.option, self.text)

    @property
    def is_default(self) -> bool:
        """Whether it is the default, because nothing set it."""
        return self.source == _DEFAULT

    @property
    def is_on_command_line(self) -> bool:
        """Whether it was set on the command line, and so for this run only."""
        return self.source == self.option.flag

    def __str__(self) -> str:
        role = f"{self.role}:" if self.role not in ("", DEFAULT_ROLE) else ""
        return f"{self.option.name}={role}{self.text} ({self.source})"


@cache
def _parsed(option: Option, text: str) -> Any:
    return option.parse(text)


class Settings:
    """
    The values in force for one run.

    `settings["wait"]` is a `Setting`; `settings.find("selector", role)` is a `Setting` or None.
    """

    def __init__(self, settings: list[Setting], environ: Mapping[str, str], folder: Path) -> None:
        self._settings = {
            (setting.option.name, setting.text if setting.option.is_repeatable else setting.role): setting
            for setting in settings
        }
        self.environ = environ
        self._folder = folder

    @classmethod
    def of(cls, config: pytest.Config, environ: Mapping[str, str] = os.environ) -> Settings:
        """
        Read command line, environment and ini.

        Raises:
            OptionError: A value is invalid, or two values exclude each other; the message names their sources.
        """
        found = _with_one_source([setting for option in OPTIONS for setting in _read(option, config, environ)])
        # JMP_LEASE is not a lease of the embedded lab or of --jmp-direct; inside a shell it is the shell's own lease.
        if environ.get("JUMPSTARTER_HOST") or any(setting.option.name in ("lab", "direct") for setting in found):
            found = [setting for setting in found if setting.source != setting.option.variable]
        # The first one found wins, so it is added last.
        settings = cls(list(reversed(found)), environ, config.invocation_params.dir)
        _check_hold(settings, has_workers=bool(config.getoption("tx", default=None)))
        _check_direct(settings)
        _check_history(settings)
        return settings

    def __getitem__(self, name: str) -> Setting:
        return self._settings[name, ""]

    def find(self, name: str, role: str = "") -> Setting | None:
        """Return the setting of the option called `name` (for options of roles: for `role`), or None."""
        return self._settings.get((name, role))

    def all(self, name: str) -> list[Setting]:
        """Return all settings of the option called `name`: one for each of its values, or for each role."""
        return [setting for setting in self._settings.values() if setting.option.name == name]

    def path(self, name: str) -> Path | None:
        """Return the path that the option called `name` names; None if it is not set."""
        setting = self.find(name)
        return self._folder / setting.value if setting is not None else None

    def is_on(self, name: str) -> bool:
        """Return whether the switch called `name` is on; it is off if nothing set it."""
        setting = self.find(name)
        return setting is not None and setting.value == "on"

    def of_roles(self) -> list[Setting]:
        """Return the settings that are for roles."""
        return [setting for setting in self._settings.values() if setting.role]

    def choosing_devices(self) -> list[Setting]:
        """Return the settings that say which device a role gets."""
        return [setting for setting in self.of_roles() if setting.option.name != "state"]

    @property
    def mode(self) -> str:
        """The source of devices: `lab`, `direct`, `shell` or `lease`, the first that applies."""
        for mode in ("lab", "direct"):
            if self.find(mode):
                return mode
        overrides = any(setting.is_on_command_line for setting in self.choosing_devices())
        if self.environ.get("JUMPSTARTER_HOST") and not overrides:
            return "shell"
        return "lease"

    @property
    def is_any_set(self) -> bool:
        """Whether any option of this plugin, or JUMPSTARTER_HOST, is set."""
        settings = self._settings.values()
        return bool(self.environ.get("JUMPSTARTER_HOST")) or not all(setting.is_default for setting in settings)

    def header(self) -> list[str]:
        """Return lines that show every value in force with its source; no lines if nothing was set."""
        settings = sorted(self._settings.values(), key=lambda setting: OPTIONS.index(setting.option))
        shell = self.environ.get("JUMPSTARTER_HOST")
        if not self.is_any_set:
            return []
        from pytest_jumpstarter.masking import learn_environment, safe

        learn_environment(self.environ)
        values = [f"{self.mode} mode", *([f"JUMPSTARTER_HOST={shell}"] if shell else []), *map(str, settings)]
        return textwrap.wrap(
            safe(f"jumpstarter: {', '.join(values)}"),
            79,
            subsequent_indent="  ",
            break_on_hyphens=False,
            break_long_words=False,
        )


def _with_one_source(found: list[Setting]) -> list[Setting]:
    """Return the settings with only one of `--jmp-lab` and `--jmp-direct`; the command line wins over the ini file."""
    sources = [setting for setting in found if setting.option.name in ("lab", "direct")]
    chosen = [setting for setting in sources if setting.is_on_command_line] or sources
    if len({setting.option.name for setting in chosen}) > 1:
        both = " and ".join(f"{setting.source} ({setting.text})" for setting in chosen)
        raise OptionError(f"{both} cannot be used together: remove one of them")
    return [setting for setting in found if setting not in sources or setting in chosen]


def _check_hold(settings: Settings, *, has_workers: bool) -> None:
    """Raise an error for `--jmp-hold-on-failure` in a run that cannot hold a device."""
    hold = settings.find("hold-on-failure")
    if hold is None or not hold.is_on_command_line:
        return
    if settings.mode == "shell":
        raise OptionError(f"{hold.source}: inside a jmp shell the lease belongs to the shell, and ends with it")
    if settings.mode == "direct":
        raise OptionError(f"{hold.source}: with --jmp-direct there is no lease to hold")
    if settings.mode == "lab" and has_workers:
        raise OptionError(f"{hold.source}: with --jmp-lab it needs a run without xdist (-n), whose workers always end")


def _check_direct(settings: Settings) -> None:
    """Raise an error for options that `--jmp-direct` excludes, and for `--jmp-direct-ca` without it."""
    direct, ca = settings.find("direct"), settings.find("direct-ca")
    if ca is not None and direct is not None and direct.value.startswith("grpc://"):
        raise OptionError(f"{ca.source}: {direct.text} ({direct.source}) uses plain text, without a certificate")
    if ca is not None and direct is None and ca.is_on_command_line:
        raise OptionError(f"{ca.source}: it needs --jmp-direct, which is not set")
    for setting in settings.of_roles() if settings.mode == "direct" else ():
        if setting.option.name in ("lease", "each") and setting.is_on_command_line:
            raise OptionError(f"{setting.source}: with --jmp-direct there is no lab controller, and so no lease")


def _check_history(settings: Settings) -> None:
    """Raise an error for an option of the history without a history."""
    if settings.find("history") is not None:
        return
    for name, value in (("avoid-unhealthy", "on"), ("order", "longest")):
        if (setting := settings.find(name)) is not None and setting.value == value:
            raise OptionError(f"{setting.source}: {value} needs --jmp-history, which is not set")


SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()
"""The key of the settings in force, in a config's stash."""


def _read(option: Option, config: pytest.Config, environ: Mapping[str, str]) -> Iterator[Setting]:
    """Yield the settings of `option`, those that win first."""
    winner = ""
    for text, source in spellings(option, config, environ):
        winner = winner or source
        if option.is_repeatable and source != winner:
            return
        role, value = split_role(text) if option.is_for_roles else ("", text)
        setting = Setting(text=value, source=source, option=option, role=role)
        if not setting.is_default:
            _check(setting)
        yield setting


def _check(setting: Setting) -> None:
    """Parse a value that a user set, so that an invalid one is an error at the start."""
    try:
        _ = setting.value
    except (ValueError, SelectorError) as exc:
        raise OptionError(f"{setting.source}: {exc}") from exc


def spellings(option: Option, config: pytest.Config, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each text that sets an option with its source, those that win first."""
    given = config.getoption(option.ini)
    for text in reversed(given if isinstance(given, list) else [given] if given is not None else []):
        yield text, option.flag
    if option.variable and environ.get(option.variable):
        yield environ[option.variable], option.variable
    for text in _ini_texts(option, config):
        folder = config.inipath.parent if config.inipath else config.rootpath
        yield str(folder / text) if option.is_path else text, _source_in_ini(option, config)
    if option.default is not None:
        yield option.default, _DEFAULT


def _source_in_ini(option: Option, config: pytest.Config) -> str:
    return f"{option.ini} in {config.inipath.name if config.inipath else 'ini'}"


def _ini_texts(option: Option, config: pytest.Config) -> list[str]:
    """
    Return the values of `option` in the ini file as text.

    Raises:
        OptionError: TOML has a value of a type that the option does not take.
    """
    value: object = None
    if config.inipath is not None and config.inipath.suffix == ".toml":
        from pytest_jumpstarter.pytest_private import toml_value

        value = toml_value(config, option.ini)
    if value is None:
        value = config.getini(option.ini)
    if value is None or value == "":
        return []
    source = _source_in_ini(option, config)
    if isinstance(value, list) and not option.takes_many:
        raise OptionError(f"{source}: {value!r} is a list; write one value")
    if isinstance(value, str) and option.takes_many:
        value = [line.strip() for line in value.splitlines() if line.strip()]
    return [_toml_text(option, each, source) for each in (value if isinstance(value, list) else [value])]


def _toml_text(option: Option, value: object, source: str) -> str:
    """Return a value of TOML as it would be written on the command line."""
    from datetime import time  # the type of 00:15:00

    if isinstance(value, bool) and option.is_switch:
        return "on" if value else "off"
    if isinstance(value, bool) or not isinstance(value, str | int | float | time):
        raise OptionError(f"{source}: {value!r} is not a value for {option.flag} {option.metavar}")
    return str(value)


def split_role(text: str, default: str = DEFAULT_ROLE) -> tuple[str, str]:
    """Return role and value of `[ROLE:]VALUE`; without a role, `default` is the role."""
    found = re.fullmatch(_ROLE, text)
    return (found[1], found[2].strip()) if found else (default, text)

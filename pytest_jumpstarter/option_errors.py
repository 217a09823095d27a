"""
The errors of options and selectors, and their base classes, which every run loads.

They are apart because the classes of all errors take half a millisecond to create. `errors` has these, too.
"""

from __future__ import annotations

_PUBLIC = "pytest_jumpstarter.errors"  # shown before the names of the classes in tracebacks


class JumpstarterError(Exception):
    """Base class of all errors of this package."""

    __module__ = _PUBLIC


class ConfigError(JumpstarterError):
    """What was asked for cannot work; trying again will not help."""

    __module__ = _PUBLIC


class OptionError(ConfigError, ValueError):
    """An option, ini value, marker or fixture argument is wrong; the message says where it was set."""

    __module__ = _PUBLIC


class SelectorError(ConfigError, ValueError):
    """A label selector has a syntax error; the message says at which position."""

    __module__ = _PUBLIC

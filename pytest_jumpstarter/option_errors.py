"""
The errors of options and selectors, and their base classes, which every run loads.

They are apart because the classes of all errors take half a millisecond to create. `errors` has these, too.
"""

from __future__ import annotations


class JumpstarterError(Exception):
    """Base class of all errors of this package."""


class ConfigError(JumpstarterError):
    """What was asked for cannot work; trying again will not help."""


class OptionError(ConfigError, ValueError):
    """An option, ini value, marker or fixture argument is wrong; the message says where it was set."""


class SelectorError(ConfigError, ValueError):
    """A label selector has a syntax error; the message says at which position."""

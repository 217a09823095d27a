"""
The fields of a client config, read from a YAML file and from environment variables.

A field that is missing in the file is taken from `JMP_FIELD`; a field that is in the file, even as `null`, is not.
Tables (`JMP_TLS`, `JMP_DRIVERS`, `JMP_METADATA`, `JMP_GRPCOPTIONS`) are JSON; fields of the file override theirs. The
case of the names of these variables does not matter. No message of this module contains a token.

Source: jumpstarter.config.client (0.9.0), by experiment; pydantic-settings
"""

from __future__ import annotations

import base64
import json
import math
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pytest_jumpstarter.client.v1.secret import Secret, Token
from pytest_jumpstarter.errors import ClientConfigError

_API_VERSION = "jumpstarter.dev/v1alpha1"
_TRUE = {"1", "true", "t", "yes", "y", "on"}
_FALSE = {"0", "false", "f", "no", "n", "off"}
_PREFIXES = {"metadata": "JMP_", "drivers": "JMP_DRIVERS_"}  # tables with a variable for each field


class Environment(dict[str, str]):
    """The environment variables; its repr hides their values."""

    def setting(self, variable: str) -> str | None:
        """Return the value of a `JMP_*` variable, whose name may be in any case."""
        found = self.get(variable)
        return found if found is not None else self._folded().get(variable)

    def names_a_client(self) -> bool:
        """Return whether Jumpstarter takes the client config from here: if there are a namespace and a name."""
        metadata = ConfigTable({}, self, "the environment").section("metadata")
        return metadata.has("namespace") and metadata.has("name")

    def _folded(self) -> dict[str, str]:
        return {name.upper(): value for name, value in self.items() if name.upper().startswith("JMP_")}

    def __repr__(self) -> str:
        return f"<{len(self)} environment variables>"


def read_yaml(path: Path, kind: str) -> dict[str, Any]:
    """Return the fields of a file of Jumpstarter's `kind`, with hidden tokens."""
    table = _parse(path)
    if not isinstance(table, dict):
        del table  # it may contain a token, which a traceback with local variables would show
        raise ClientConfigError(f"{path} is not a {kind}: it is not a mapping")
    for name in ("token", "refresh_token"):
        if not isinstance(table.get(name), str | None):
            del table
            raise ClientConfigError(f"{name} in {path} is not a token: it must be printable ASCII without spaces")
        if table.get(name) is not None:
            table[name] = Token(table[name])
    for name, wanted in (("apiVersion", _API_VERSION), ("kind", kind)):
        if table.get(name, wanted) != wanted:
            raise ClientConfigError(f"{path} is not a {kind}: its {name} is {table[name]!r}, not {wanted!r}")
    return table


def _parse(path: Path) -> Any:
    import yaml  # only needed if there is a file

    try:
        with path.open(encoding="utf-8") as file:
            return yaml.safe_load(file)
    except OSError as error:
        raise ClientConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ClientConfigError(f"{path} is not YAML: it is not text in UTF-8") from None  # its cause quotes the file
    except (RecursionError, ValueError) as error:  # nested too deeply, or a date that is none
        raise ClientConfigError(f"{path} is not YAML: {type(error).__name__}") from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        # Not chained: the error of yaml quotes the file, and the file contains a token.
        raise ClientConfigError(f"{path} is not YAML{place}: {problem or type(error).__name__}") from None


class ConfigTable:
    """One table of a client config; reads fields by their type and knows where each came from."""

    def __init__(
        self,
        fields: Mapping[str, Any],
        environ: Environment,
        where: str,
        *,
        path: str = "",
        prefix: str | None = "JMP_",
    ) -> None:
        self.fields = fields
        self.environ = environ
        self.where = where
        self._path = path
        self._prefix = prefix

    def section(self, name: str) -> Self:
        """Return the table `name`; empty if there is none."""
        below, above = self._table_of_environment(name), self.fields.get(name, {})
        if above is None and name == "grpcOptions":  # the only table that may be null in Jumpstarter
            above = {}
        if not isinstance(above, dict):
            raise self._wrong(name, above, "a mapping")
        return type(self)(below | above, self.environ, self.where, path=f"{name}.", prefix=_PREFIXES.get(name))

    def has(self, name: str) -> bool:
        """Return whether the field is set, even to nothing."""
        return name in self.fields or self._setting(name) is not None

    def is_filled(self, name: str) -> bool:
        """Return whether the field is set to something."""
        return self._value(name) not in (None, "")

    def text(self, name: str) -> str:
        """Return a required text."""
        value = self._value(name)
        if not isinstance(value, str | None):
            raise self._wrong(name, value, "text")
        if not value:
            raise self._missing(name)
        return str(value)  # what comes from the environment is hidden, but this is no secret

    def secret(self, name: str) -> Token:
        """Return a required token: printable ASCII without spaces, as HTTP demands."""
        value = self._value(name)
        if value is None or value == "":
            raise self._missing(name)
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
            raise ClientConfigError(f"{self.origin(name)} is not a token: it must be printable ASCII without spaces")
        return Token(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; a single text is split at commas."""
        value = self._value(name)
        if isinstance(value, str):
            return tuple(value.split(","))
        if value is None and name not in self.fields:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, value, "a list of texts")
        return tuple(value)

    def flag(self, name: str) -> bool:
        """Return a boolean; False if it is not set."""
        value = self._value(name)
        word = str(value).lower()
        if word in _TRUE:
            return True
        if word in _FALSE or (value is None and name not in self.fields):
            return False
        raise self._wrong(name, value, "true or false")

    def seconds(self, name: str, *, variable: str) -> float | None:
        """Return a number of seconds, None if it is not set; for these, Jumpstarter prefers the variable."""
        text, origin = self.environ.get(variable) or None, f"{variable} in the environment"
        value = self._value(name) if text is None else text
        if value is None:
            return None
        try:
            seconds = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            seconds = math.nan
        if not 0 < seconds < math.inf:
            where = self.origin(name) if text is None else origin
            raise ClientConfigError(f"{where} must be a number of seconds that is more than 0")
        return seconds

    def pem(self, name: str) -> bytes | None:
        """Return certificates, which are written as base64 of PEM; None if there are none."""
        value = self._value(name)
        if value is None or value == "":
            return None
        try:
            pem = base64.b64decode(value)
        except (TypeError, ValueError) as error:
            raise ClientConfigError(f"{self.origin(name)} is not base64: {error}") from error
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode("ascii", "ignore"))
        except (ValueError, ssl.SSLError) as error:
            raise ClientConfigError(f"{self.origin(name)} is not a certificate: it must be base64 of PEM") from error
        return pem

    def options(self) -> dict[str, str | int]:
        """Return the fields of this table as channel options."""
        for name, value in self.fields.items():
            if not isinstance(value, str | int):
                raise self._wrong(name, value, "text or a whole number")
        return dict(self.fields)

    def origin(self, name: str) -> str:
        """Return a description of the field or variable, for error messages."""
        if name in self.fields or (variable := self._variable(name)) is None or self.environ.setting(variable) is None:
            return f"{self._path}{name} in {self.where}"
        return f"{variable} in the environment"

    def _value(self, name: str) -> Any:
        return self.fields[name] if name in self.fields else self._setting(name)

    def _variable(self, name: str) -> str | None:
        return None if self._prefix is None else f"{self._prefix}{name.upper()}"

    def _setting(self, name: str) -> Secret | None:
        variable = self._variable(name)
        value = None if variable is None else self.environ.setting(variable)
        return None if value is None else Secret(value)

    def _table_of_environment(self, name: str) -> dict[str, Any]:
        variable = f"JMP_{name.upper()}"
        text = self.environ.setting(variable)
        if not text:
            return {}
        try:
            table = json.loads(text)
        except ValueError as error:
            raise ClientConfigError(f"{variable} in the environment is not JSON: {error}") from error
        if not isinstance(table, dict):
            raise ClientConfigError(f"{variable} in the environment is not a JSON object")
        return table

    def _wrong(self, name: str, value: object, wanted: str) -> ClientConfigError:
        return ClientConfigError(f"{self.origin(name)} must be {wanted}, not {type(value).__name__}")

    def _missing(self, name: str) -> ClientConfigError:
        variable = self._variable(name)
        if self.where == "the environment":
            return ClientConfigError(
                f"JMP_NAMESPACE and JMP_NAME in the environment name a client, but {variable} is not set; "
                "set it too, or unset those two to use the current client"
            )
        login = ", or log in again with `jmp login`" if name == "token" else ""
        return ClientConfigError(
            f"{self._path}{name} is missing in {self.where}; write it there, or set {variable}{login}"
        )

"""
The client config: the address of the lab controller, the name of the client, its token.

It is found as Jumpstarter finds it: the file that is given; else the environment variables, if they name a client; else
the current client of the user config. Nothing here writes a file.

Source: jumpstarter.config.client, jumpstarter.config.user, jumpstarter_cli_common.config (0.9.0)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pytest_jumpstarter.client.v1.config_table import ConfigTable, Environment, read_yaml
from pytest_jumpstarter.client.v1.secret import Token
from pytest_jumpstarter.client.v1.tls import Tls, split_endpoint
from pytest_jumpstarter.errors import ClientConfigError, ClientConfigMissing

INSECURE_VARIABLES = ("JUMPSTARTER_GRPC_INSECURE", "JMP_GRPC_INSECURE")
"""Variables that are 1 to do without the check of certificates, or without TLS."""

_UNREAD = "JMP_CLIENT_CONFIG"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """A client config: the address of the lab controller, the identity of the client, and the allowed drivers."""

    endpoint: str
    token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    """What gets the next token from the identity provider, as `jmp login` stores it."""
    namespace: str
    name: str
    tls: Tls = field(default_factory=Tls)
    grpc_options: Mapping[str, str | int] = field(default_factory=dict)
    driver_allow: tuple[str, ...] = ()
    """Patterns (`fnmatch`) for the driver client classes that may be imported."""
    driver_unsafe: bool = False
    """Whether every driver client class that an exporter names may be imported."""
    dial_timeout: float | None = None
    """Seconds for an exporter to become reachable (`leases.dial_timeout`, `JMP_DIAL_TIMEOUT`); None if not set."""
    source: str = "the arguments of ClientConfig"
    """Where it came from, for messages."""
    path: Path | None = None
    """The file it came from; None if there was none."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "token", Token(self.token))
        if self.refresh_token is not None:
            object.__setattr__(self, "refresh_token", Token(self.refresh_token))

    @classmethod
    def load(cls, source: str | Path | None = None, *, environ: Mapping[str, str] | None = None) -> Self:
        """
        Find and read the client config.

        Args:
            source: A file, or the alias of a client (`jmp config client list`). None: the environment variables, if
                `JMP_NAMESPACE` and `JMP_NAME` are set, as Jumpstarter decides it; else the current client.
            environ: The environment variables; None: those of this process.

        Raises:
            ClientConfigMissing: There is no client config.
            ClientConfigError: The client config is broken or incomplete.
        """
        variables = Environment(os.environ if environ is None else environ)
        del environ  # a traceback with local variables would show the tokens in it
        if source is not None:
            path, words = _named(source, variables)
        elif variables.names_a_client():
            return cls._from(ConfigTable({}, variables, "the environment"), "JMP_* variables in the environment", None)
        else:
            path, words = _current(variables)
        return cls._from(ConfigTable(read_yaml(path, "ClientConfig"), variables, str(path)), words, path)

    @classmethod
    def _from(cls, table: ConfigTable, source: str, path: Path | None) -> Self:
        metadata, drivers = table.section("metadata"), table.section("drivers")
        allow = drivers.texts("allow")
        config = cls(
            endpoint=table.text("endpoint"),
            token=table.secret("token"),
            refresh_token=table.secret("refresh_token") if table.is_filled("refresh_token") else None,
            namespace=metadata.text("namespace"),
            name=metadata.text("name"),
            tls=_tls(table),
            grpc_options=table.section("grpcOptions").options(),
            driver_allow=allow,
            driver_unsafe=drivers.flag("unsafe") or "UNSAFE" in allow,
            dial_timeout=table.section("leases").seconds("dial_timeout", variable="JMP_DIAL_TIMEOUT"),
            source=source,
            path=path,
        )
        _check_endpoint(config.endpoint, table)
        return config


def config_home(environ: Mapping[str, str]) -> Path:
    """Return the folder of Jumpstarter's user config."""
    if (home := environ.get("JMP_CLIENT_CONFIG_HOME")) is not None:
        return Path(home)
    xdg = Path(environ.get("XDG_CONFIG_HOME") or "")
    return (xdg if xdg.is_absolute() else _user_home(environ) / ".config") / "jumpstarter"


def _user_home(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()


def _named(source: str | Path, environ: Mapping[str, str]) -> tuple[Path, str]:
    """Return the file that `source` names, and its description; an alias wins over a file of the same name."""
    path = Path(source).expanduser()
    if isinstance(source, Path) or os.sep in source or path.suffix in (".yaml", ".yml"):
        if not path.exists():
            raise ClientConfigError(f"client config {path} does not exist; {_known(environ)}")
        return path, f"client config {path}"
    aliased = config_home(environ) / "clients" / f"{source}.yaml"
    if aliased.exists():
        return aliased, f"client config {aliased} (client {source})"
    if path.is_file():
        return path, f"client config {path}"
    raise ClientConfigError(f"there is no client {source!r}: {aliased} does not exist; {_known(environ)}")


def _current(environ: Mapping[str, str]) -> tuple[Path, str]:
    """Return the file of the current client, and its description."""
    user_config = config_home(environ) / "config.yaml"
    ways = (
        f"name a client config, set JMP_ENDPOINT, JMP_TOKEN, JMP_NAMESPACE and JMP_NAME, or log in; {_known(environ)}"
        f"{_unread(environ)}"
    )
    if not user_config.exists():
        raise ClientConfigMissing(f"no client config: {user_config} does not exist; {ways}")
    config = read_yaml(user_config, "UserConfig").get("config")
    alias = config.get("current-client") if isinstance(config, dict) else None
    if alias is None:
        raise ClientConfigMissing(f"no client config: {user_config} names no current-client; {ways}")
    path = config_home(environ) / "clients" / f"{alias}.yaml"
    if not path.exists():
        raise ClientConfigError(f"current-client of {user_config} is {alias!r}, but {path} does not exist; {ways}")
    return path, f"client config {path} (current client{_unread(environ)})"


def _unread(environ: Mapping[str, str]) -> str:
    """Return a note on a variable that Jumpstarter documents but does not read, if it is set."""
    return f"; {_UNREAD} is not read, by jmp neither" if environ.get(_UNREAD) else ""


def _known(environ: Mapping[str, str]) -> str:
    """Return a text that lists the aliases."""
    folder = config_home(environ) / "clients"
    aliases = sorted(file.stem for file in folder.glob("*.yaml"))
    return f"the clients in {folder} are {', '.join(aliases)}" if aliases else f"there are no clients in {folder}"


def _tls(table: ConfigTable) -> Tls:
    section = table.section("tls")
    forced = any(table.environ.get(name) == "1" for name in INSECURE_VARIABLES)
    return Tls(ca=section.pem("ca"), insecure=section.flag("insecure") or forced)


def _check_endpoint(endpoint: str, table: ConfigTable) -> None:
    try:
        split_endpoint(endpoint)
    except ClientConfigError as error:
        raise ClientConfigError(f"{error} ({table.origin('endpoint')})") from error

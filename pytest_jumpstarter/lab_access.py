"""`LabAccess`: the lab of a run: its client config and client, and the embedded lab if that is ours."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_jumpstarter.errors import ClientConfigError, ClientConfigMissing, ConfigError, LabError, NoDeviceSource
from pytest_jumpstarter.settings import Settings

if TYPE_CHECKING:
    import pytest

    from pytest_jumpstarter.client.v1 import Client, ClientConfig
    from pytest_jumpstarter.lab import Lab

_FIVE_WAYS = """\
nothing says where devices come from. Five ways:
  pytest --jmp-lab=FILE              start a lab from this file
  pytest --jmp-direct=HOST:PORT      use the exporter there
  jmp shell ... -- pytest            use the shell's exporter
  pytest --jmp-client=ALIAS-OR-FILE  lease by this client config
  jmp config client use ALIAS        make it the current client"""


class LabAccess:
    """
    The lab of a run, found or started when it is first asked for, from whichever thread.

    Args:
        bring: Returns a client that somebody else made and closes, or None; asked once, in lease mode.
        lab_elsewhere: Returns the client config of the embedded lab that another process runs; None: we run it.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        bring: Callable[[], Client | None],
        lab_elsewhere: Callable[[], Path] | None = None,
    ) -> None:
        self._settings = settings
        self._bring = bring
        self._brought: Client | None = None
        self._lab_elsewhere = lab_elsewhere
        self._lock = threading.RLock()
        self._lab: Lab | None = None
        self._failure: LabError | None = None
        self._config: ClientConfig | None = None
        self._client: Client | None = None

    @property
    def has_lab(self) -> bool:
        """Whether the embedded lab runs, and is ours to stop."""
        return self._lab is not None

    @property
    def config(self) -> ClientConfig:
        """
        The client config.

        Raises:
            NoDeviceSource: There is none.
            ClientConfigError, LabError: It is broken, or the lab does not start.
            ConfigError: What was brought as a client is none.
        """
        with self._lock:
            if self._config is None:
                self._brought = self._ask() if self._settings.mode == "lease" else None
                self._config = self._load() if self._brought is None else _config_of(self._brought, self._settings)
            return self._config

    @property
    def client(self) -> Client:
        """The client of the lab controller, which renews its token from the config; errors as for `config`."""
        with self._lock:
            if self._client is None:
                from pytest_jumpstarter.client.v1 import Client

                config = self.config
                self._client = self._brought or Client.from_config(config)
                self._client.renew = self._client.renew or config.read_token
            return self._client

    def client_option(self) -> str:
        """Return what `jmp` must be told to be the client of this run; nothing where it is without being told."""
        from pytest_jumpstarter.client.v1.config import config_home

        chosen, path = self._settings.find("client"), self.config.path
        if path is None or (chosen is None and self._settings.mode != "lab"):
            return ""
        if chosen is not None and path == config_home(self._settings.environ) / "clients" / f"{chosen.value}.yaml":
            return f" --client {shlex.quote(chosen.value)}"
        return f" --client-config {shlex.quote(str(path.absolute()))}"

    def close(self) -> None:
        """Leave the lab controller; stop it if it is ours."""
        with self._lock:
            lab, self._lab = self._lab, None
            try:
                if self._client is not None and self._client is not self._brought:
                    self._client.close()
            finally:
                if lab is not None:
                    lab.stop()

    def _ask(self) -> Client | None:
        from pytest_jumpstarter.client.v1 import Client

        brought = self._bring()
        if not isinstance(brought, Client | None):
            raise ConfigError(f"hook pytest_jumpstarter_client returned {brought!r}, which is no Client")
        return brought

    def _load(self) -> ClientConfig:
        from pytest_jumpstarter.client.v1 import ClientConfig

        if self._settings.mode == "lab":
            path = self._start_lab() if self._lab_elsewhere is None else self._lab_elsewhere()
            return ClientConfig.load(path, environ={})  # the lab's own file says all there is to say
        chosen = self._settings.find("client")
        try:
            return ClientConfig.load(chosen.value if chosen else None, environ=self._settings.environ)
        except ClientConfigMissing as exc:
            raise NoDeviceSource(f"{_FIVE_WAYS}\n({exc})") from exc
        except ClientConfigError as exc:
            raise ClientConfigError(f"{exc} (from {chosen.source})" if chosen else str(exc)) from exc

    def _start_lab(self) -> Path:
        """Start the lab; where that failed, fail again without another try."""
        from pytest_jumpstarter.lab import Lab

        if self._failure is not None:
            raise self._failure
        setting = self._settings["lab"]
        lab = Lab([setting.value])
        try:
            lab.start()
        except LabError as exc:
            self._failure = LabError(f"{exc} (from {setting.source})")
            raise self._failure from exc
        self._lab = lab
        config: Path = lab.client_config
        return config


def lab_access_of(
    config: pytest.Config, settings: Settings, *, lab_elsewhere: Callable[[], Path] | None = None
) -> LabAccess:
    """Return the site of a pytest run, whose hooks may bring a client."""

    def bring() -> Client | None:
        brought: Client | None = config.hook.pytest_jumpstarter_client(config=config)
        return brought

    return LabAccess(settings, bring=bring, lab_elsewhere=lab_elsewhere)


def _config_of(client: Client, settings: Settings) -> ClientConfig:
    """Return the config of a client that was brought, as if it had been made from one."""
    from pytest_jumpstarter.client.v1 import ClientConfig

    if client.config is not None:
        return client.config
    allow = tuple(filter(None, settings.environ.get("JMP_DRIVERS_ALLOW", "").split(",")))
    return ClientConfig(
        endpoint=client.endpoint,
        token=client.token,
        namespace=client.namespace,
        name=client.name,
        tls=client.tls,
        driver_allow=allow,
        driver_unsafe="UNSAFE" in allow,
        source="hook pytest_jumpstarter_client",
    )

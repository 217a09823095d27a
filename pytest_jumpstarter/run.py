"""`Run`: what one pytest run has from a lab. Made when the first test asks for a device, never before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_jumpstarter.errors import (
    ClientConfigError,
    ClientConfigMissing,
    ConfigError,
    JumpstarterError,
    LabError,
    NoDeviceSource,
)
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.request import LeaseIds, Terms, Wanted
from pytest_jumpstarter.options import Settings
from pytest_jumpstarter.signals import OrderlyStop

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_jumpstarter.client.v1 import Client, ClientConfig, Lease
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.lab import Lab
    from pytest_jumpstarter.leasing.health import Health
    from pytest_jumpstarter.leasing.shell import ShellSource
    from pytest_jumpstarter.leasing.source import ControllerSource

_FOUR_WAYS = """\
nothing says where devices come from. Four ways:
  pytest --jmp-lab=FILE              start the embedded lab from this file
  jmp shell ... -- pytest            use the exporter that the shell has leased
  pytest --jmp-client=ALIAS-OR-FILE  lease from the lab of this client config
  jmp config client use ALIAS        make a client config the current one"""


class Run:
    """
    What one pytest run has from a lab.

    Attributes:
        settings: The values in force, each with its source.
        mode: Where devices come from: `lab`, `shell` or `lease`.
        healths: The state of each role's device, from the moment its lease is ready.
    """

    def __init__(self, settings: Settings, events: Events, *, worker: str) -> None:
        self.settings = settings
        self.mode = settings.mode
        self.healths: dict[str, Health] = {}
        self._process = os.getpid()
        self._events = events
        self._worker = worker
        self._lab: Lab | None = None
        self._source: ControllerSource | ShellSource | None = None
        self._stop = OrderlyStop(self._release_all)
        self._failure: JumpstarterError | None = None

    @property
    def client(self) -> Client:
        """
        The v1 client that leases are made with.

        Raises:
            ConfigError: Inside a `jmp shell` there is none: the shell holds the lease.
        """
        if self.mode == "shell":
            raise ConfigError("jumpstarter.client: there is none inside a jmp shell, which holds the lease itself")
        return self._client

    @property
    def leases(self) -> list[Lease]:
        """The leases in use at this moment, as last seen."""
        return self._source.leases if self._source is not None else []

    @contextmanager
    def device(self, wanted: Wanted) -> Iterator[Device]:
        """
        Yield a connected device for a role, and give its board back whatever happens.

        Raises:
            NoDeviceSource: Nothing says where devices come from.
            ConfigError, DeviceError, RequestError: As the source does.
        """
        if self._source is None:
            self._source = self._open_source_once()
            self._stop.install()
            self._events.on_start()
        with self._source.device(wanted) as device:
            yield device

    @property
    def received(self) -> int:
        """The signal that ends this run; 0 if none does."""
        return self._stop.received

    def close(self) -> None:
        """Give back whatever is still held, then stop the embedded lab; a second call, or a child's, does nothing."""
        if os.getpid() != self._process:
            return
        source, self._source = self._source, None
        lab, self._lab = self._lab, None
        try:
            if source is not None:
                self._stop.wait_released()
                source.close()
                self._stop.restore()
                self._events.on_end()
            if "_client" in self.__dict__:
                self._client.close()
        finally:
            if lab is not None:
                lab.stop()

    def _open_source_once(self) -> ControllerSource | ShellSource:
        """Open the source; where that failed, fail again without another try."""
        if self._failure is not None:
            raise self._failure
        try:
            return self._open_source()
        except JumpstarterError as exc:
            self._failure = exc
            raise

    def _release_all(self) -> None:
        if self._source is not None:
            self._source.release_all()

    def _open_source(self) -> ControllerSource | ShellSource:
        if self.mode == "shell":
            from pytest_jumpstarter.leasing.shell import ShellSource

            return ShellSource(self.settings.environ, events=self._events, healths=self.healths)
        from pytest_jumpstarter.leasing.source import ControllerSource

        max_hold = self.settings.find("max-hold")
        return ControllerSource(
            self.client,
            self._config,
            events=self._events,
            healths=self.healths,
            ids=LeaseIds(worker=self._worker),
            terms=Terms(ttl=self.settings["ttl"].value, max_hold=max_hold.value if max_hold else None),
        )

    @cached_property
    def _client(self) -> Client:
        from pytest_jumpstarter.client.v1 import Client

        return Client.from_config(self._config)

    @cached_property
    def _config(self) -> ClientConfig:
        from pytest_jumpstarter.client.v1 import ClientConfig

        if self.mode == "lab":
            return ClientConfig.load(self._start_lab(), environ={})  # the lab's own file says all there is to say
        chosen = self.settings.find("client")
        try:
            return ClientConfig.load(chosen.value if chosen else None, environ=self.settings.environ)
        except ClientConfigMissing as exc:
            raise NoDeviceSource(f"{_FOUR_WAYS}\n({exc})") from exc
        except ClientConfigError as exc:
            raise ClientConfigError(f"{exc} (from {chosen.source})" if chosen else str(exc)) from exc

    def _start_lab(self) -> Path:
        from pytest_jumpstarter.lab import Lab

        lab = self.settings["lab"]
        try:
            self._lab = Lab([lab.value])
            self._lab.start()
        except LabError as exc:
            raise LabError(f"{exc} (from {lab.source})") from exc
        config: Path = self._lab.client_config
        return config


def wanted_device(settings: Settings, role: str, *, selector: str | None, exporter: str | None) -> Wanted:
    """Merge what a fixture says about its device with what is set for its role; a setting beats the fixture."""
    found = [settings.find(name, role) for name in ("selector", "exporter", "lease")]
    texts = [setting.text if setting else None for setting in found]
    sources = [setting.source if setting else "" for setting in found]
    if texts[0] is None and texts[1] is None:  # a setting says which board: then the fixture's own words are moot
        texts[:2] = selector, exporter
        sources[0] = f"device_fixture of {role}" if selector or exporter else ""
    return Wanted(
        role=role,
        selector=texts[0],
        exporter=texts[1],
        lease=texts[2],
        source=", ".join(filter(None, sources[:2])),
        lease_source=sources[2],
        wait=settings["wait"].value,
    )

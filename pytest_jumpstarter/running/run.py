"""`Run`: all devices and leases of a pytest run. It is made when the first test requests a device, never before."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_jumpstarter.device.socket_end import remove_folders_of
from pytest_jumpstarter.errors import ConfigError, JumpstarterError, LeaseLost, OptionError, RequestError
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.lab_access import LabAccess
from pytest_jumpstarter.leasing.choice import Choice
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.lease_request import LeaseIds, Terms, Wanted
from pytest_jumpstarter.leasing.sets import Sets
from pytest_jumpstarter.running.resources import named_shortages, require_descriptors, require_threads
from pytest_jumpstarter.settings import Settings
from pytest_jumpstarter.signals import OrderlyStop

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Client, Lease
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.leasing.connect import DeviceSettings
    from pytest_jumpstarter.leasing.hand_over import HandOver
    from pytest_jumpstarter.leasing.health import Health
    from pytest_jumpstarter.leasing.sets import Source
    from pytest_jumpstarter.leasing.without_lease import GivenExporter

_LOOK_INTERVAL = 1.0


class Run:
    """
    All devices and leases of a pytest run.

    Args:
        ids: Makes the names for the leases of this process.
        device_settings: The settings of all devices.

    Attributes:
        settings: The values in force, each with its source.
        events: Receives what happens to leases and devices.
        lab_access: Access to the lab.
        mode: Where devices come from: `lab`, `direct`, `shell` or `lease`.
        has_leases: Whether this run leases its devices.
        source: The source of devices; None before the first device, and after `close`.
        sets: The sets of devices in use.
        healths: The health of each role's device, from the moment its lease is ready.
        choice: Which exporters to avoid.
        stop: The signal handlers, and the signal that ends this run.
        left_to_people: The roles whose boards stay leased for people when the run ends.
        is_paused: Whether the fixture is torn down only because a test runs again; then `close` does nothing.
    """

    def __init__(
        self,
        settings: Settings,
        events: Events,
        *,
        lab_access: LabAccess,
        ids: LeaseIds,
        device_settings: DeviceSettings,
    ) -> None:
        self.settings = settings
        self.events = events
        self.lab_access = lab_access
        self.mode = settings.mode
        self.has_leases = self.mode in ("lab", "lease")
        self.source: Source | None = None
        self.healths: dict[str, Health] = {}
        self.sets = Sets(self.healths)
        self.choice = Choice()
        self.stop = OrderlyStop(self._release_all, self._on_hangup if self.mode == "shell" else None)
        self.stop.before_end.append(partial(remove_folders_of, os.getpid()))
        self.is_paused = False
        self.left_to_people: frozenset[str] = frozenset()
        self._process = os.getpid()
        self._ids = ids
        self._device_settings = device_settings
        self._failure: JumpstarterError | None = None
        self._held: HandOver | None = None
        self._connecting: threading.Thread | None = None
        self._findings: list[str] = []

    @property
    def client(self) -> Client:
        """
        The v1 client that creates the leases.

        Raises:
            ConfigError: There is none inside a `jmp shell`, which has the lease, or with `--jmp-direct`.
        """
        if self._connecting is not None and threading.current_thread() is not self._connecting:
            self._connecting.join()
        if self.mode == "shell":
            raise ConfigError("jumpstarter.client: there is none inside a jmp shell, which holds the lease itself")
        if self.mode == "direct":
            raise ConfigError("jumpstarter.client: there is none with --jmp-direct, which does without a lab")
        return self.lab_access.client

    @property
    def leases(self) -> list[Lease]:
        """The leases in use at this moment, as last seen."""
        return self.source.leases if self.source is not None else []

    @contextmanager
    def device(self, wanted: Wanted, together: Sequence[Wanted] = ()) -> Iterator[Device]:
        """
        Yield a connected device for a role; `sets.end` releases its board, at the latest at the end of the run.

        Args:
            wanted: What the role needs.
            together: The devices of the same set, which are leased together or not at all.

        Raises:
            NoDeviceSource: No setting says where devices come from.
            ConfigError, DeviceError, RequestError: The source raised this.
        """
        with ExitStack() as stack:
            with named_shortages():
                if not any(held.get(wanted.role) == wanted for held in self.sets.wanted):
                    require_descriptors()
                    require_threads()
                device = stack.enter_context(self.sets.device(self.begin(), wanted, together or [wanted]))
            yield device

    def begin(self) -> Source:
        """
        Return the source of devices; open it first if necessary, with signal handlers and events until `close`.

        Raises:
            NoDeviceSource: No setting says where devices come from.
            ConfigError, RequestError: The source cannot be opened.
        """
        if self.source is None:
            self.source = self._open_source_once()
            self.stop.install()
            self.events.on_start()
        return self.source

    def warm_up(self, wanted: Collection[Wanted]) -> None:
        """In a thread, connect to the lab controller and check that it has the devices that will be needed."""
        if self.has_leases and self._connecting is None:
            connecting = threading.Thread(target=self._connect, args=[wanted], name="jumpstarter-connect", daemon=True)
            with suppress(RuntimeError):  # no thread can be started: the first test that needs a device gets an error
                connecting.start()
                self._connecting = connecting

    def show_findings(self) -> None:
        """Show the problems that the warm-up found, in the main thread."""
        while self._findings:
            self.events.say(self._findings.pop(0))

    def _connect(self, wanted: Collection[Wanted]) -> None:
        from pytest_jumpstarter.leasing.availability import LISTING_TIMEOUT, look_for

        with suppress(Exception):  # the first test that needs a device gets the error
            client = self.client
            for each in {(each.selector, each.exporter): each for each in wanted if each.lease is None}.values():
                if each.selector is not None or each.exporter is not None:
                    try:
                        look_for(client, each, timeout=LISTING_TIMEOUT)
                    except ConfigError as exc:
                        self._findings.append(str(exc))

    def reserve(self, duration: float) -> HandOver:
        """Keep the boards of the postponed roles for people, for `duration` seconds; return how to reach them."""
        from pytest_jumpstarter.leasing.hand_over import HandOver

        assert self.source is not None
        roles = self.sets.postponed
        reserved, failures = self.source.reserve(roles, duration)
        self.left_to_people = roles if reserved else frozenset()
        self.sets.end_postponed()
        held = HandOver.of(reserved, failures, client=self.lab_access.client_option(), is_lab=self.lab_access.has_lab)
        self._held = held if held.is_any else None
        for lease in held.leases:
            self.events.on_reserved(lease)
        return held

    def close(self) -> None:
        """
        Release all devices, and restore the signal handlers; a second call, or one in a forked child, does nothing.

        The connection to the lab controller stays open until `finish`, because a plugin may run the last test again.
        """
        if os.getpid() == self._process and not self.is_paused and not self.sets.postponed:
            self._release_devices()

    def finish(self) -> None:
        """Release what `close` did not, wait for people with a lease in the embedded lab, then leave the lab."""
        if os.getpid() != self._process:
            return
        self.is_paused = False
        with ExitStack() as stack:
            stack.callback(self.stop.restore)
            stack.callback(self._leave)
            self._release_devices()
            if self._held is not None and self.lab_access.has_lab:
                self.events.say("the embedded lab goes on for the lease that is held; Ctrl-C ends it")
                self._wait_for_people(self._held)

    def _release_devices(self) -> None:
        source = self.source
        try:
            if source is not None:
                self.stop.wait_released()
                with ExitStack() as stack:
                    stack.callback(self.events.on_end)
                    stack.callback(self._restore_signals)
                    stack.callback(source.close)
                    stack.callback(self.sets.end_all)
        finally:
            self.stop.wait_released()  # a signal may have come meanwhile
            self.source = None  # not earlier, because the thread of the signal uses it

    def _restore_signals(self) -> None:
        """Restore the signal handlers; after a signal not yet, because a second one may come before all is told."""
        if not self.stop.received:
            self.stop.restore()

    def _leave(self) -> None:
        """Disconnect from the lab controller, and stop the embedded lab."""
        try:
            if self._connecting is not None:
                self._connecting.join()
        finally:
            self.lab_access.close()

    def _wait_for_people(self, held: HandOver) -> None:
        """Wait until the leases that are held have expired, or people have released them."""
        client = self.lab_access.client
        with suppress(RequestError, KeyboardInterrupt):  # the lab has ended, and so have its leases; or Ctrl-C
            while real_time.monotonic() < held.until and not all(
                client.get_lease(name).is_ended for name in held.leases
            ):
                real_time.sleep(_LOOK_INTERVAL)

    def _open_source_once(self) -> Source:
        """Open the source; if that failed before, raise the same error without another try."""
        if self._failure is not None:
            raise self._failure
        try:
            return self._open_source()
        except JumpstarterError as exc:
            self._failure = exc
            raise

    def _on_hangup(self) -> None:
        """Handle SIGHUP inside a `jmp shell`, where it means that the lease has ended: all devices are lost."""
        for role, health in self.healths.items():
            health.lose(LeaseLost("the jmp shell around this run says that its lease is over (SIGHUP)"))
            self.events.on_loss(role, health.loss or LeaseLost(""))

    def _release_all(self) -> None:
        if self.source is not None:
            self.source.release_all()

    def _open_source(self) -> Source:
        if not self.has_leases:
            from pytest_jumpstarter.leasing.without_lease import GivenSource

            exporter = self._in_shell() if self.mode == "shell" else self._direct()
            return GivenSource(exporter, events=self.events, healths=self.healths, settings=self._device_settings)
        from pytest_jumpstarter.leasing.from_controller import ControllerSource

        max_hold = self.settings.find("max-hold")
        return ControllerSource(
            self.client,
            self.lab_access.config,
            events=self.events,
            healths=self.healths,
            choice=self.choice,
            ids=self._ids,
            terms=Terms(ttl=self.settings["ttl"].value, max_hold=max_hold.value if max_hold else None),
            settings=self._device_settings,
        )

    def _in_shell(self) -> GivenExporter:
        from pytest_jumpstarter.leasing.in_shell import ShellExporter

        return ShellExporter(self.settings.environ)

    def _direct(self) -> GivenExporter:
        from pytest_jumpstarter.leasing.direct import DirectExporter

        direct, ca = self.settings["direct"], self.settings.find("direct-ca")
        try:
            return DirectExporter(
                direct.value,
                ca=Path(ca.value) if ca else None,
                source=direct.source,
                environ=self.settings.environ,
            )
        except OptionError as exc:
            raise OptionError(f"{ca.source if ca else direct.source}: {exc}") from exc

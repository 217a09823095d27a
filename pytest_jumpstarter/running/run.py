"""`Run`: what one pytest run has from a lab. Made when the first test asks for a device, never before."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_jumpstarter.errors import ConfigError, JumpstarterError, LeaseLost, OptionError, RequestError
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
    from pytest_jumpstarter.leasing.connect import ConsolePolicy
    from pytest_jumpstarter.leasing.hand_over import HandOver
    from pytest_jumpstarter.leasing.health import Health
    from pytest_jumpstarter.leasing.sets import Source
    from pytest_jumpstarter.leasing.without_lease import GivenExporter

_LOOK_INTERVAL = 1.0


class Run:
    """
    What one pytest run has from a lab.

    Args:
        site: The lab.
        ids: Names for the leases of this process.
        consoles: What holds for all consoles.

    Attributes:
        settings: The values in force, each with its source.
        events: Told what happens to leases and devices.
        site: The lab.
        mode: Where devices come from: `lab`, `direct`, `shell` or `lease`.
        has_leases: Whether they are leased in this run.
        source: Where devices come from; None before the first, and after `close`.
        sets: The sets of devices in our hands.
        healths: The state of each role's device, from the moment its lease is ready.
        choice: Which exporters to avoid.
        stop: The signals, and which of them ends this run.
        is_paused: Whether the fixture is torn down only to be made again.
    """

    def __init__(
        self, settings: Settings, events: Events, *, lab_access: LabAccess, ids: LeaseIds, consoles: ConsolePolicy
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
        self.is_paused = False
        self._process = os.getpid()
        self._ids = ids
        self._consoles = consoles
        self._failure: JumpstarterError | None = None
        self._held: HandOver | None = None
        self._connecting: threading.Thread | None = None
        self._findings: list[str] = []

    @property
    def client(self) -> Client:
        """
        The v1 client that leases are made with.

        Raises:
            ConfigError: There is none inside a `jmp shell`, which holds the lease, or with `--jmp-direct`.
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
        Yield a connected device for a role; its board goes back by `sets.end`, and at the end in any case.

        Args:
            wanted: What the role needs.
            together: What is leased with it, all or nothing: the set of devices that it belongs to.

        Raises:
            NoDeviceSource: Nothing says where devices come from.
            ConfigError, DeviceError, RequestError: As the source does.
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
        Return the source, opened if need be; it has signals and events until `close`.

        Raises:
            NoDeviceSource, ConfigError, RequestError: Nothing says where devices come from, or nothing is there.
        """
        if self.source is None:
            self.source = self._open_source_once()
            self.stop.install()
            self.events.on_start()
        return self.source

    def warm_up(self, wanted: Collection[Wanted]) -> None:
        """Connect to the lab controller, and see whether it has what will be wanted, in a thread."""
        if self.has_leases and self._connecting is None:
            connecting = threading.Thread(target=self._connect, args=[wanted], name="jumpstarter-connect", daemon=True)
            with suppress(RuntimeError):  # there are no more threads: whoever needs a device is told
                connecting.start()
                self._connecting = connecting

    def tell(self) -> None:
        """Say what the warm-up found out, in the thread that prints."""
        while self._findings:
            self.events.say(self._findings.pop(0))

    def _connect(self, wanted: Collection[Wanted]) -> None:
        from pytest_jumpstarter.leasing.availability import look_for

        with suppress(Exception):  # whoever needs a device is told
            client = self.client
            for each in {(each.selector, each.exporter): each for each in wanted if each.lease is None}.values():
                if each.selector is not None or each.exporter is not None:
                    try:
                        look_for(client, each)
                    except ConfigError as exc:
                        self._findings.append(str(exc))

    def reserve(self, duration: float) -> HandOver:
        """Leave the boards of the postponed roles to people for `duration` seconds; return how they reach them."""
        from pytest_jumpstarter.leasing.hand_over import HandOver

        assert self.source is not None
        reserved, failures = self.source.reserve(self.sets.postponed, duration)
        self.sets.end_postponed()
        reach = HandOver.of(reserved, failures, client=self.lab_access.client_option(), is_lab=self.lab_access.has_lab)
        self._held = reach if reach.is_any else None
        for lease in reach.leases:
            self.events.on_reserved(lease)
        return reach

    def close(self) -> None:
        """
        Give back whatever is still held, and signals; a second call, or a child's, does nothing.

        The lab controller is not left before `finish`: a plugin may run the last test again, and with it begin anew.
        """
        if os.getpid() == self._process and not self.is_paused and not self.sets.postponed:
            self._give_back_all()

    def finish(self) -> None:
        """Give back what `close` left, and leave the lab controller, once people have no lease in the embedded lab."""
        if os.getpid() != self._process:
            return
        self.is_paused = False
        with ExitStack() as stack:
            stack.callback(self._leave)
            self._give_back_all()
            if self._held is not None and self.lab_access.has_lab:
                self.events.say("the embedded lab goes on for the lease that is held; Ctrl-C ends it")
                self._wait_for_people(self._held)

    def _give_back_all(self) -> None:
        source = self.source
        try:
            if source is not None:
                self.stop.wait_released()
                with ExitStack() as stack:
                    stack.callback(self.events.on_end)
                    stack.callback(self.stop.restore)
                    stack.callback(source.close)
                    stack.callback(self.sets.end_all)
        finally:
            self.stop.wait_released()  # for a signal that came meanwhile
            self.source = None  # and not before, for its thread gives back by it

    def _leave(self) -> None:
        """Leave the lab controller; stop it if it is ours."""
        try:
            if self._connecting is not None:
                self._connecting.join()
        finally:
            self.lab_access.close()

    def _wait_for_people(self, held: HandOver) -> None:
        """Wait until the leases that are held have ended, by themselves or because somebody gave them back."""
        client = self.lab_access.client
        with suppress(RequestError, KeyboardInterrupt):  # the lab is gone with the leases; or they have had enough
            while time.monotonic() < held.until and not all(client.get_lease(name).is_ended for name in held.leases):
                time.sleep(_LOOK_INTERVAL)

    def _open_source_once(self) -> Source:
        """Open the source; where that failed, fail again without another try."""
        if self._failure is not None:
            raise self._failure
        try:
            return self._open_source()
        except JumpstarterError as exc:
            self._failure = exc
            raise

    def _on_hangup(self) -> None:
        """Take SIGHUP for what it is inside a `jmp shell`: its way to say that the lease is over."""
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
            return GivenSource(exporter, events=self.events, healths=self.healths, consoles=self._consoles)
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
            consoles=self._consoles,
        )

    def _in_shell(self) -> GivenExporter:
        from pytest_jumpstarter.leasing.without_lease import ShellExporter

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

"""`GivenSource`: a device that is used without a lease of ours, because somebody else provides it."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pytest_jumpstarter.client.v1.secret import Token
from pytest_jumpstarter.client.v1.tls import Tls, channel_options
from pytest_jumpstarter.device import Device, ExporterIdentity
from pytest_jumpstarter.device.drivers import DriverPolicy
from pytest_jumpstarter.device.exporter_status import ExporterStatus
from pytest_jumpstarter.durations import format_duration
from pytest_jumpstarter.errors import ConfigError, DeviceUnreachable, HookFailed
from pytest_jumpstarter.leasing.connect import Access, Connector, DeviceSettings, only_in_this_process
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.exporter_hooks import before_hook_failure, hook_warning
from pytest_jumpstarter.leasing.health import Health
from pytest_jumpstarter.leasing.identity import asked_for, check_identity, is_unknown
from pytest_jumpstarter.leasing.lease_request import Wanted
from pytest_jumpstarter.leasing.waiting import CALL_TIMEOUT, HOOK_TIMEOUT, attempts

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device.channel_target import ChannelTarget
    from pytest_jumpstarter.device.exporter_connection import ExporterConnection
    from pytest_jumpstarter.device.exporter_log import ExporterLog
    from pytest_jumpstarter.leasing.lease import Reservation

_STATUS_PAUSE = 0.5
_STARTS = 0.5  # seconds until an exporter without a lab controller has started its hook
_NOT_YET = ("AVAILABLE", "BEFORE_LEASE_HOOK")
_WAS_READY = ("LEASE_READY", "AFTER_LEASE_HOOK", "AFTER_LEASE_HOOK_FAILED")


def _words(log: ExporterLog | None) -> str:
    return log.last_words() if log is not None else ""


class GivenExporter(Access):
    """
    Base class of exporters that are used without a lease of ours; nothing is leased or released.

    Args:
        environ: The environment, which may contain the exporter's name and labels, and the passphrase.

    Attributes:
        where: Describes the exporter, or its owner, in messages.
        address: Where it is reached, for messages.
        default_name: The exporter's name if it is unknown.
    """

    where: str
    address: str
    default_name: str = ""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._has_warned = False

    @property
    def identity(self) -> ExporterIdentity:
        """The name and labels of the exporter from the environment, with `default_name` if the name is unknown."""
        return ExporterIdentity(name=self._name or self.default_name, labels=self._labels)

    @property
    def end_reason(self) -> str:
        """Why the device can no longer be used, for messages."""
        return "its fixture was torn down"

    @property
    def policy(self) -> DriverPolicy:
        """The allow-list of driver clients in the environment, read by Jumpstarter's own code."""
        from pytest_jumpstarter.jumpstarter_private import ClientConfigV1Alpha1Drivers

        drivers = ClientConfigV1Alpha1Drivers()
        return DriverPolicy(
            allow=tuple(drivers.allow), unsafe=drivers.unsafe, source="JMP_DRIVERS_ALLOW in the environment"
        )

    def await_ready(self, connection: ExporterConnection, log: ExporterLog | None) -> str:
        """
        Wait until the exporter says that it is ready, as `jmp shell` does; return the warning of its beforeLease hook.

        An exporter older than 0.8 has no status. One whose session somebody has ended is used as it is, and so is that
        of `jmp shell --exporter-config`, which is AVAILABLE all the time.

        Raises:
            HookFailed: The beforeLease hook failed.
            DeviceUnreachable: It does not answer, or is not ready after `HOOK_TIMEOUT`.
        """
        who = f"the exporter at {self.where}"
        state = ExporterStatus("UNSPECIFIED")
        for elapsed in attempts(HOOK_TIMEOUT, longest_pause=_STATUS_PAUSE):
            try:
                state = connection.status(CALL_TIMEOUT, exporter=who)
            except DeviceUnreachable as exc:
                if state.status != "BEFORE_LEASE_HOOK":
                    raise
                raise HookFailed(f"{who} ended in its beforeLease hook{_words(log)}") from exc
            if failure := before_hook_failure(who, *state):
                raise HookFailed(f"{failure}{_words(log)}")
            is_idle = state.status == "AVAILABLE" and (state.previous in _WAS_READY or elapsed > _STARTS)
            if is_idle or state.status not in _NOT_YET:
                warning = hook_warning(state.message)
                return warning and f"{who}: {warning}"
        raise DeviceUnreachable(f"{who} is not ready after {format_duration(HOOK_TIMEOUT)} (status {state.status})")

    def check(self, wanted: Wanted) -> None:
        """
        Check that the exporter is what `wanted` asks for.

        Raises:
            DeviceMismatch: Its name or labels contradict `wanted`.

        Warns:
            UserWarning: Its name or labels are unknown; once in a run.
        """
        check_identity(wanted, self._name, self._labels, self.where)
        if self._has_warned or not is_unknown(wanted, self._name, self._labels):
            return
        warnings.warn(
            f"{asked_for(wanted)}, but the environment does not tell which exporter is at {self.address} "
            "(JMP_EXPORTER, JMP_EXPORTER_LABELS), so it is not checked",
            stacklevel=2,
        )
        self._has_warned = True  # not earlier: if warnings are errors, each test gets it

    @property
    def _name(self) -> str:
        return self._environ.get("JMP_EXPORTER", "")

    @property
    def _labels(self) -> Mapping[str, str] | None:
        labels = self._environ.get("JMP_EXPORTER_LABELS")
        pairs = (pair.partition("=") for pair in labels.split(",")) if labels else ()
        return None if labels is None else {key: value for key, _, value in pairs if key}

    @property
    def _passphrase(self) -> str:
        passphrase = Token(self._environ.get("JMP_GRPC_PASSPHRASE", ""))
        if not passphrase.isascii() or not passphrase.isprintable():
            raise ConfigError("JMP_GRPC_PASSPHRASE must be printable ASCII, in one line: gRPC sends nothing else")
        return passphrase

    def _target(self, endpoint: str, tls: Tls | None) -> ChannelTarget:
        """Return where `HOST:PORT` is reached, with TLS or in plain text."""
        from pytest_jumpstarter.device.channel_target import ChannelTarget

        return ChannelTarget(
            address=endpoint,
            credentials=None if tls is None else tls.credentials(endpoint),
            options=channel_options(endpoint),
            passphrase=self._passphrase,
        )


class GivenSource:
    """
    The device of one exporter that is used without a lease of ours.

    Args:
        exporter: The exporter.
        events: Receives what happens.
        healths: The health of each role's device; filled here.
        settings: Settings of all devices.
    """

    def __init__(
        self,
        exporter: GivenExporter,
        *,
        events: Events,
        healths: dict[str, Health],
        settings: DeviceSettings,
    ) -> None:
        self._exporter = exporter
        self._healths = healths
        self._connector = Connector(policy=exporter.policy, settings=settings, events=events, healths=healths)

    @contextmanager
    def devices(self, wanted: Sequence[Wanted]) -> Iterator[dict[str, Device]]:
        """
        Connect to the exporter and yield its device for each role.

        Raises:
            ConfigError: The exporter does not match, refuses the passphrase in JMP_GRPC_PASSPHRASE, or TLS is not
                configured correctly.
            DeviceUnreachable: It does not answer.
        """
        for each in wanted:
            self._exporter.check(each)
        with ExitStack() as stack:
            devices = {}
            for each in wanted:
                self._healths[each.role] = Health()
                devices[each.role] = self._connector.connect(each.role, self._exporter, stack)
            with only_in_this_process(stack):
                yield devices

    @property
    def leases(self) -> list[Lease]:
        """Always empty: the lease belongs to somebody else."""
        return []

    def foresee(self, wanted: Wanted) -> Wanted:
        """Return `wanted` unchanged: without a lease request, no hook changes it."""
        return wanted

    def reserve(self, roles: Collection[str], duration: float) -> tuple[list[Reservation], list[str]]:  # noqa: ARG002 - as above
        """Keep nothing for people: the owner of the exporter decides about it."""
        return [], []

    def release_all(self) -> None:
        """Do nothing: there is no lease to release."""

    def close(self) -> None:
        """End the event loop."""
        self._connector.close()

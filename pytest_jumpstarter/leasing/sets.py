"""Sets of devices: acquired together at the first use of a member, released together after the last use."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Lease
    from pytest_jumpstarter.device import Device, ExporterIdentity
    from pytest_jumpstarter.leasing.health import Health
    from pytest_jumpstarter.leasing.lease import Reservation
    from pytest_jumpstarter.leasing.lease_request import Wanted


class Source(Protocol):
    """A source that devices come from."""

    @property
    def leases(self) -> list[Lease]:
        """The leases in use at this moment, as last seen."""

    def devices(self, wanted: Sequence[Wanted]) -> AbstractContextManager[dict[str, Device]]:
        """Yield the devices of all roles together."""

    def foresee(self, wanted: Wanted) -> Wanted:
        """Return what would be requested, with the changes of the hooks; nothing is sent."""

    def reserve(self, roles: Collection[str], duration: float) -> tuple[list[Reservation], list[str]]:
        """Keep the boards of some roles for people, for `duration` seconds; return these leases, and the failures."""

    def release_all(self) -> None:
        """Release every lease of this process at once; after a signal, in a thread."""

    def close(self) -> None:
        """Release every device that is still in use, and end the event loop."""


class _Set:
    """Devices that were acquired together; `users` is the number of fixtures that use one of them."""

    def __init__(self, source: Source, wanted: Sequence[Wanted]) -> None:
        self.wanted = {each.role: each for each in wanted}
        self.users = 0
        self._stack = ExitStack()
        self.devices = self._stack.enter_context(source.devices(wanted))

    def end(self) -> None:
        self._stack.close()


class Sets:
    """
    The sets of devices in use.

    Args:
        healths: The health of each role's device.

    Attributes:
        postponed: The roles whose sets are not released before `end_postponed`.
    """

    def __init__(self, healths: Mapping[str, Health]) -> None:
        self._healths = healths
        self._sets: list[_Set] = []
        self.postponed: frozenset[str] = frozenset()
        self._postponed_sets: list[_Set] = []

    @property
    def wanted(self) -> list[Mapping[str, Wanted]]:
        """What each role of a set needs; one entry for each set."""
        return [each.wanted for each in self._sets]

    @contextmanager
    def device(self, source: Source, wanted: Wanted, together: Sequence[Wanted]) -> Iterator[Device]:
        """
        Yield the device of one role: from a set in use, or from a new set with all devices in `together`.

        A set in which a device is lost is used on only by the fixtures that already have it.
        """
        found = next((each for each in self._sets if each.wanted.get(wanted.role) == wanted), None)
        if found is None or (not found.users and any(health.current_loss() for health in self._healths_of(found))):
            self.end([each.role for each in together])
            found = _Set(source, together)
            self._sets.append(found)
        found.users += 1
        try:
            yield found.devices[wanted.role]
        finally:
            found.users -= 1
            if not found.users and any(health.loss for health in self._healths_of(found)):
                self.end([wanted.role])

    def is_used(self, role: str) -> bool:
        """Return whether a fixture uses a device of the set that contains this role."""
        return any(each.users for each in self._sets if role in each.wanted)

    def roles_with(self, roles: Collection[str]) -> list[str]:
        """Return these roles, and all others of their sets."""
        more = [role for each in self._sets if each.wanted.keys() & set(roles) for role in each.wanted]
        return list(dict.fromkeys([*roles, *more]))

    def exporters_of(self, roles: Collection[str]) -> list[ExporterIdentity]:
        """Return the exporters of the devices of these roles."""
        return [device.exporter for each in self._sets for role, device in each.devices.items() if role in roles]

    def postpone(self, roles: Collection[str]) -> bool:
        """Postpone the release of sets that contain these roles until `end_postponed`; return whether there are any."""
        self.postponed = frozenset(role for each in self._sets for role in each.wanted if role in roles)
        return bool(self.postponed)

    def end_postponed(self) -> None:
        """Release the sets whose release was postponed."""
        self.postponed = frozenset()
        sets, self._postponed_sets = self._postponed_sets, []
        with ExitStack() as stack:
            for each in sets:
                stack.callback(each.end)

    def end(self, roles: Collection[str]) -> None:
        """Release the sets that contain these roles."""
        self._end([each for each in self._sets if each.wanted.keys() & set(roles)])

    def end_all(self) -> None:
        """Release every set, also the postponed ones."""
        with ExitStack() as stack:
            stack.callback(self.end_postponed)
            stack.callback(self._end, list(self._sets))

    def _end(self, sets: list[_Set]) -> None:
        with ExitStack() as stack:
            for each in sets:
                self._sets.remove(each)
                if each.wanted.keys() & self.postponed:
                    self._postponed_sets.append(each)
                else:
                    stack.callback(each.end)

    def _healths_of(self, found: _Set) -> list[Health]:
        return [self._healths[role] for role in found.wanted if role in self._healths]

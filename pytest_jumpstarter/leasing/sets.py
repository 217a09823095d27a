"""Sets of devices: had together from the first use of a member until nobody needs any, whatever fixtures do."""

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
    """Where devices come from."""

    @property
    def leases(self) -> list[Lease]:
        """The leases in use at this moment, as last seen."""

    def devices(self, wanted: Sequence[Wanted]) -> AbstractContextManager[dict[str, Device]]:
        """Yield the devices of all roles together."""

    def foresee(self, wanted: Wanted) -> Wanted:
        """Return what would be asked of the lab controller, after the hooks had their say; ask nothing."""

    def reserve(self, roles: Collection[str], duration: float) -> tuple[list[Reservation], list[str]]:
        """Leave the boards of some roles to people, for `duration` seconds; return those, and why others cannot be."""

    def release_all(self) -> None:
        """Give back every lease of ours at once; for a signal, in a thread."""

    def close(self) -> None:
        """Give back what a fixture left behind, and end the event loop."""


class _Set:
    """Devices in our hands."""

    def __init__(self, source: Source, wanted: Sequence[Wanted]) -> None:
        self.wanted = {each.role: each for each in wanted}
        self.users = 0
        self._stack = ExitStack()
        self.devices = self._stack.enter_context(source.devices(wanted))

    def end(self) -> None:
        self._stack.close()


class Sets:
    """
    The sets in our hands.

    Args:
        healths: The state of each role's device.

    Attributes:
        postponed: The roles whose sets are not given back before `end_postponed`.
    """

    def __init__(self, healths: Mapping[str, Health]) -> None:
        self._healths = healths
        self._sets: list[_Set] = []
        self.postponed: frozenset[str] = frozenset()
        self._ending: list[_Set] = []

    @property
    def wanted(self) -> list[Mapping[str, Wanted]]:
        """What is held for each role, one entry a set."""
        return [each.wanted for each in self._sets]

    @contextmanager
    def device(self, source: Source, wanted: Wanted, together: Sequence[Wanted]) -> Iterator[Device]:
        """Yield the device of one role, from the set that is held, or acquired now with all that belong `together`."""
        found = next((each for each in self._sets if each.wanted.get(wanted.role) == wanted), None)
        if found is None:
            self.end([each.role for each in together])
            found = _Set(source, together)
            self._sets.append(found)
        found.users += 1
        try:
            yield found.devices[wanted.role]
        finally:
            found.users -= 1
            if not found.users and self._is_lost(found):  # the next fixture gets another
                self.end([wanted.role])

    def is_used(self, role: str) -> bool:
        """Return whether a fixture has a device of the set that a role is in, rather than only the set being held."""
        return any(each.users for each in self._sets if role in each.wanted)

    def roles_with(self, roles: Collection[str]) -> list[str]:
        """Return these roles, and those whose devices are held together with theirs."""
        more = [role for each in self._sets if each.wanted.keys() & set(roles) for role in each.wanted]
        return list(dict.fromkeys([*roles, *more]))

    def exporters_of(self, roles: Collection[str]) -> list[ExporterIdentity]:
        """Return the exporters of the devices of these roles."""
        return [device.exporter for each in self._sets for role, device in each.devices.items() if role in roles]

    def postpone(self, roles: Collection[str]) -> bool:
        """Give back no set that these roles are in before `end_postponed`; return whether there is any."""
        self.postponed = frozenset(role for each in self._sets for role in each.wanted if role in roles)
        return bool(self.postponed)

    def end_postponed(self) -> None:
        """Give back what would have gone back since `postpone`."""
        self.postponed = frozenset()
        ending, self._ending = self._ending, []
        with ExitStack() as stack:
            for each in ending:
                stack.callback(each.end)

    def end(self, roles: Collection[str]) -> None:
        """Give back the sets that these roles are in."""
        self._end([each for each in self._sets if each.wanted.keys() & set(roles)])

    def end_all(self) -> None:
        """Give back every set, at once."""
        with ExitStack() as stack:
            stack.callback(self.end_postponed)
            stack.callback(self._end, list(self._sets))

    def _end(self, sets: list[_Set]) -> None:
        with ExitStack() as stack:
            for each in sets:
                self._sets.remove(each)
                if each.wanted.keys() & self.postponed:
                    self._ending.append(each)
                else:
                    stack.callback(each.end)

    def _is_lost(self, found: _Set) -> bool:
        healths = [self._healths[role] for role in found.wanted if role in self._healths]
        return any(health.loss is not None for health in healths)

"""Releasing leases by name: one lease of this process, or all leases of a process that has died."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress

from pytest_jumpstarter.client.v1 import Client, Lease
from pytest_jumpstarter.errors import AlreadyReleased, NotFound, RequestError
from pytest_jumpstarter.leasing.lease_request import LeaseIds
from pytest_jumpstarter.leasing.patience import CONTROLLER_GRACE, Patience
from pytest_jumpstarter.leasing.waiting import attempts

RELEASE_TIMEOUT = 5.0
"""Seconds for one request to release a lease, for all such requests after a signal, and for the confirmation."""

_CREATE_MAY_BE_PENDING = 1.0


def delete(client: Client, name: str, *, is_created: bool, timeout: float = CONTROLLER_GRACE) -> bool:
    """
    Delete a lease; try again while the lab controller cannot do it. Return whether the lease existed.

    Args:
        client: The client that the lease belongs to.
        name: The name of the lease.
        is_created: Whether the lease is known to exist; if not, its interrupted CreateLease may still arrive, so
            "not found" is tried again for a moment.
        timeout: Seconds for which failures are tried again.

    Raises:
        RequestError: The lease may still be active.
    """
    failure: RequestError | None = None
    patience = Patience(timeout, has_lease=True, has_answered=True)
    for elapsed in attempts(timeout):
        try:
            client.delete_lease(name, timeout=min(RELEASE_TIMEOUT, max(timeout - elapsed, 1.0)))
            return True
        except AlreadyReleased:
            return True  # the exporter itself releases after an afterLease hook
        except NotFound:
            if is_created or elapsed > _CREATE_MAY_BE_PENDING:
                return False
        except RequestError as exc:
            failure = exc
            if patience.is_over(exc):
                break
    if failure is not None:
        raise failure
    return False


def sweep(client: Client, prefix: str, *, is_kept: Callable[[str], bool]) -> str:
    """
    Release every lease whose id starts with `prefix` and wait until they have ended; return why some may not have.

    A lab controller may give a lease another name than its id; the tags have the parts of the id, too. It looks again
    for a second, because a CreateLease of the dead process may still arrive.

    Source: jumpstarter.client.v1.ClientService ListLeases, DeleteLease
    """
    left: Collection[str] = ()
    failure = ""
    for elapsed in attempts(CONTROLLER_GRACE):
        try:
            ours = [
                lease for lease in client.list_leases() if lease.client == client.name
            ]  # without transferred leases
            active = [lease.name for lease in ours if any(each.startswith(prefix) for each in (lease.name, _id(lease)))]
            left, failure = [name for name in active if not is_kept(name)], ""
            for name in left:
                with suppress(AlreadyReleased, NotFound):
                    client.delete_lease(name)
        except RequestError as exc:
            failure = f": {exc}"
            continue
        if not left and elapsed > _CREATE_MAY_BE_PENDING:
            return ""
    names = " ".join(left)
    by_hand = f"jmp delete leases {names}" if names else "jmp get leases, and jmp delete leases NAME"
    return f"leases {prefix}* may still be held{failure}; to release them: {by_hand}"


def _id(lease: Lease) -> str:
    """Return how the id of a lease of ours begins, according to its tags."""
    return LeaseIds(run=lease.tags["run"], worker=lease.tags.get("worker", "")).prefix if "run" in lease.tags else ""

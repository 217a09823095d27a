"""Giving leases back by name: one of ours, or all that a process left behind which has died."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.errors import AlreadyReleased, NotFound, RequestError
from pytest_jumpstarter.leasing.patience import Patience
from pytest_jumpstarter.leasing.waiting import CONTROLLER_GRACE, attempts

RELEASE_TIMEOUT = 5.0
"""Seconds for one request to release a lease, for all of them after a signal, and to see the lease ended."""

_CREATE_MAY_BE_UNDER_WAY = 1.0


def delete(client: Client, name: str, *, is_created: bool, timeout: float = CONTROLLER_GRACE) -> bool:
    """
    Delete a lease, again if the lab controller cannot do it for a while; return whether there was one.

    Args:
        client: The client of the lease.
        name: The name of the lease.
        is_created: Whether the lease was seen; if not, a request that was interrupted may still create it.
        timeout: Seconds for which trouble is tried again.

    Raises:
        RequestError: The lease may still be active.
    """
    trouble: RequestError | None = None
    patience = Patience(timeout, holds_lease=True, has_answered=True)
    for elapsed in attempts(timeout):
        try:
            client.delete_lease(name, timeout=min(RELEASE_TIMEOUT, max(timeout - elapsed, 1.0)))
            return True
        except AlreadyReleased:
            return True  # the exporter itself releases after an afterLease hook
        except NotFound:
            if is_created or elapsed > _CREATE_MAY_BE_UNDER_WAY:
                return False
        except RequestError as exc:
            trouble = exc
            if patience.is_over(exc):
                break
    if trouble is not None:
        raise trouble
    return False


def sweep(client: Client, prefix: str, *, is_kept: Callable[[str], bool]) -> str:
    """
    Give back every lease whose name begins with `prefix`, and see them ended; return why some may still be held.

    It looks again for a second: a request of the process that has died may still be on its way.

    Source: jumpstarter.client.v1.ClientService ListLeases, DeleteLease
    """
    left: Collection[str] = ()
    trouble = ""
    for elapsed in attempts(CONTROLLER_GRACE):
        try:
            active = [lease.name for lease in client.list_leases() if lease.name.startswith(prefix)]
            left, trouble = [name for name in active if not is_kept(name)], ""
            for name in left:
                with suppress(AlreadyReleased, NotFound):
                    client.delete_lease(name)
        except RequestError as exc:
            trouble = f": {exc}"
            continue
        if not left and elapsed > _CREATE_MAY_BE_UNDER_WAY:
            return ""
    names = " ".join(left)
    by_hand = f"jmp delete leases {names}" if names else "jmp get leases, and jmp delete leases NAME"
    return f"leases {prefix}* may still be held{trouble}; to release them: {by_hand}"

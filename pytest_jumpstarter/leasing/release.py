"""Giving leases back by name: one of ours, or all that a process left behind which has died."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.errors import AlreadyReleased, NotFound, RequestError, TransportError
from pytest_jumpstarter.leasing.waiting import attempts

RELEASE_TIMEOUT = 5.0
"""Seconds for the lab controller to take a release, and again to confirm it."""

_CREATE_MAY_BE_UNDER_WAY = 1.0


def delete(client: Client, name: str, *, is_created: bool) -> bool:
    """
    Delete a lease, again while the lab controller is away; tell whether there was one.

    Args:
        client: Whose lease it is.
        name: Its name.
        is_created: Whether it was seen; else a request that was interrupted is waited for rather than left behind.

    Raises:
        RequestError: It may still be held after `RELEASE_TIMEOUT`.
    """
    trouble: RequestError | None = None
    for elapsed in attempts(RELEASE_TIMEOUT):
        try:
            client.delete_lease(name)
            return True
        except AlreadyReleased:
            return True  # the exporter itself releases after an afterLease hook
        except NotFound:
            if is_created or elapsed > _CREATE_MAY_BE_UNDER_WAY:
                return False
        except TransportError as exc:
            trouble = exc
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
    for elapsed in attempts(RELEASE_TIMEOUT):
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

"""Releasing leases by name: one lease of this process, or all leases of a process that has died."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.client.v1.lease_creation import ID_TAG, tagged
from pytest_jumpstarter.errors import AlreadyReleased, NotFound, NotReady, RequestError
from pytest_jumpstarter.leasing.patience import CONTROLLER_GRACE, Patience
from pytest_jumpstarter.leasing.waiting import attempts

RELEASE_TIMEOUT = 5.0
"""Seconds for one request to release a lease, for all such requests after a signal, and for the confirmation."""

_CREATE_MAY_BE_PENDING = 1.0


def delete(
    client: Client,
    name: str,
    *,
    lease_id: str,
    is_created: bool,
    timeout: float = CONTROLLER_GRACE,
    say: Callable[[str], None] = lambda _: None,
) -> str:
    """
    Delete a lease; try again while the lab controller cannot do it. Return its name; empty if it did not exist.

    A lab controller may name leases itself. Then every lease with the tag of the request is deleted: a request whose
    answer was lost may have created one before.

    Args:
        client: The client that the lease belongs to.
        name: The name of the lease, or the one that was asked for.
        lease_id: The lease id of its request.
        is_created: Whether the lease is known to exist; if not, its interrupted CreateLease may still arrive, so
            "not found" is tried again for a moment.
        timeout: Seconds for which failures are tried again.
        say: Shows why the lab controller does not release it yet, such as a board that must not lose its power now.

    Raises:
        RequestError: The lease may still be active.
    """
    failure: RequestError | None = None
    patience = Patience(timeout, has_lease=True, has_answered=True)
    for elapsed in attempts(timeout):
        left = min(RELEASE_TIMEOUT, max(timeout - elapsed, 1.0))
        try:
            found = [name] if _deleted(client, name, left) else []
            if name != lease_id or not (found or is_created):
                others = [lease.name for lease in tagged(client, lease_id, timeout=left) if lease.name != name]
                found += [other for other in others if _deleted(client, other, left)]
        except RequestError as exc:
            if isinstance(exc, NotReady) and failure is None:
                say(f"lease {name} cannot be released yet: {exc}")
            failure = exc
            if patience.is_over(exc):
                break
        else:
            if found or is_created or elapsed > _CREATE_MAY_BE_PENDING:
                return found[0] if found else ""
    if failure is not None:
        raise failure
    return ""


def _deleted(client: Client, name: str, timeout: float) -> bool:
    """Delete a lease; return whether it existed."""
    with suppress(AlreadyReleased):  # the exporter itself releases after an afterLease hook
        try:
            client.delete_lease(name, timeout=timeout)
        except NotFound:
            return False
    return True


def sweep(client: Client, prefix: str, *, is_kept: Callable[[str], bool]) -> str:
    """
    Release every lease whose id starts with `prefix` and wait until they have ended; return why some may not have.

    A lab controller may give a lease another name than its id; then a tag has the id. It looks again for a second,
    because a CreateLease of the dead process may still arrive.

    Source: jumpstarter.client.v1.ClientService ListLeases, DeleteLease
    """
    left: Collection[str] = ()
    failure = ""
    for elapsed in attempts(CONTROLLER_GRACE):
        try:
            ours = [
                lease for lease in client.list_leases() if lease.client == client.name
            ]  # without transferred leases
            ids = {lease.name: (lease.name, lease.tags.get(ID_TAG, "")) for lease in ours}
            active = [name for name, its in ids.items() if any(each.startswith(prefix) for each in its)]
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

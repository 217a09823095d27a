"""Whether a board that somebody else chose matches what the role needs."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_jumpstarter.client.v1 import Client, Lease
from pytest_jumpstarter.errors import (
    ConfigError,
    DeviceMismatch,
    LeaseUnsatisfiable,
    NotFound,
)
from pytest_jumpstarter.leasing.lease_request import Wanted
from pytest_jumpstarter.selector import Selector


def check_identity(wanted: Wanted, name: str, labels: Mapping[str, str] | None, where: str) -> None:
    """
    Check that a board that somebody else chose is what `wanted` asks for.

    An unknown name (empty) and unknown labels (None) are not checked; see `is_unknown`.

    Raises:
        DeviceMismatch: Its name or labels contradict `wanted`.
    """
    if wanted.exporter is not None and name and wanted.exporter != name:
        raise DeviceMismatch(f"{asked_for(wanted)}, but {where} has exporter {name}")
    if wanted.selector is None or labels is None:
        return
    unmet = Selector.parse(wanted.selector).unmet(labels)
    if unmet:
        has = ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "no labels"
        raise DeviceMismatch(
            f"{asked_for(wanted)}, but {where} has exporter {name or '(unnamed)'} with {has}: "
            f"{', '.join(map(str, unmet))} does not hold"
        )


def is_unknown(wanted: Wanted, name: str, labels: Mapping[str, str] | None) -> bool:
    """Return whether `wanted` asks for a name or labels, and those of the board are unknown."""
    return (wanted.exporter is not None and not name) or (wanted.selector is not None and labels is None)


def asked_for(wanted: Wanted) -> str:
    """Return what `wanted` asks for, and the source of that, for messages."""
    board = ", ".join(filter(None, [wanted.exporter and f"exporter {wanted.exporter}", wanted.selector]))
    return f"{wanted.role!r} asks for {board} ({wanted.source})"


def check_lease(client: Client, wanted: Wanted) -> Lease:
    """
    Return the existing lease that `wanted` names, if this client can use it.

    Raises:
        ConfigError: There is no such lease, it has ended, or it belongs to another client.
    Source: jumpstarter.client.v1.ClientService GetLease
    """
    asked = f"{wanted.lease} ({wanted.lease_source})"
    try:
        lease = client.get_lease(str(wanted.lease))
    except NotFound as exc:
        raise ConfigError(f"lease {asked} does not exist; jmp get leases shows those that do") from exc
    if lease.client != client.name:
        raise ConfigError(f"lease {asked} belongs to client {lease.client!r}, not to {client.name!r}")
    if lease.is_ended:
        why = f": {lease.refusal.message}" if lease.refusal else ""
        raise LeaseUnsatisfiable(f"lease {asked} has already ended{why}")
    return lease

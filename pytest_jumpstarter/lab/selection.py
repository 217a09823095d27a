"""
Which exporter a lease gets, or why it gets none.

Source: the lease reconciler of Jumpstarter's controller: all reasons and messages are those that clients get from it.
The brackets in two of them are empty there too.
This lab has no access policies, so every exporter is approved for every client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pytest_jumpstarter.lab.model import Exporter, Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why a lease gets no exporter now, or never gets one: the condition to set to true."""

    type: Literal["Pending", "Unsatisfiable"]
    reason: str
    message: str


def select_exporter(lease: Lease, exporters: Mapping[str, Exporter]) -> Exporter | Verdict:
    """Return the exporter for `lease`, or why there is none; `exporters` is sorted by name."""
    candidates = _named(lease, exporters) if lease.exporter_name else _matching(lease, exporters)
    return candidates if isinstance(candidates, Verdict) else _free(candidates)


def _named(lease: Lease, exporters: Mapping[str, Exporter]) -> list[Exporter] | Verdict:
    exporter = exporters.get(lease.exporter_name)
    if exporter is None:
        return _never("ExporterNotFound", f"Requested exporter {lease.exporter_name} was not found")
    if lease.selector and not lease.selector.matches(exporter.labels):
        return _never(
            "SelectorMismatch", f"Requested exporter {exporter.name} does not match selector {lease.selector}"
        )
    if not exporter.is_enabled and not lease.allow_disabled:
        return _never(
            "ExporterDisabled",
            f"Requested exporter {exporter.name} is disabled. To lease a disabled exporter, set spec.allowDisabled:"
            " true on the Lease, or use --allow-disabled with jmp create lease",
        )
    return [exporter]


def _matching(lease: Lease, exporters: Mapping[str, Exporter]) -> list[Exporter] | Verdict:
    assert lease.selector is not None  # the caller has refused a lease with neither name nor selector
    listed = [exporter for exporter in exporters.values() if lease.selector.matches(exporter.labels)]
    enabled = [exporter for exporter in listed if exporter.is_enabled]
    if listed and not enabled:
        return _never("AllDisabled", f"All {len(listed)} exporters matching the selector are disabled")
    if not enabled:
        return _never(
            "NoAccess",
            "While there are 0 exporters matching the selector,"
            " none of them are approved by any policy for your client",
        )
    return enabled


def _free(candidates: list[Exporter]) -> Exporter | Verdict:
    online = [exporter for exporter in candidates if exporter.devices is not None and exporter.is_online]
    if not online:
        return _wait(
            "Offline",
            f"While there are {len(candidates)} available exporters (i.e. ), none of them are online",
        )
    unleased = [exporter for exporter in online if exporter.lease is None]
    if not unleased:
        return _wait(
            "NotAvailable",
            f"There are {len(online)} approved exporters, (i.e. ) but all of them are already leased",
        )
    ready = [exporter for exporter in unleased if exporter.is_assignable]
    if not ready:
        return _wait(
            "NotReady",
            f"There are {len(unleased)} online exporters, but none are ready (still cleaning up previous lease)",
        )
    return ready[0]


def _wait(reason: str, message: str) -> Verdict:
    return Verdict(type="Pending", reason=reason, message=message)


def _never(reason: str, message: str) -> Verdict:
    return Verdict(type="Unsatisfiable", reason=reason, message=message)

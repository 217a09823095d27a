"""
What an exporter says of itself and its hooks, in its statuses and their messages.

Source: jumpstarter.exporter.hooks; with `onFailure: exit` the status OFFLINE follows the failure at once
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_jumpstarter.errors import ExporterOffline, HookFailed, RequestError
from pytest_jumpstarter.leasing.polling import polls

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Client, Exporter

OWN_RELEASE_TIMEOUT = 4.0
"""Seconds for an exporter to release the lease itself after its hook has failed; 0.9 begins after one second."""

_RELEASES = "(on_failure=endLease)"
_WARNING = "[HOOK_WARNING]"
_RELEASED = "after lease release"  # the exporter itself released the lease


def hook_warning(message: str) -> str:
    """Return the warning of a hook that failed with `onFailure: warn`; empty if the status has none."""
    return message.removeprefix(_WARNING).strip() if message.startswith(_WARNING) else ""


def draining(message: str) -> str:
    """Return what an exporter waits for before it ends a lease (after 0.9); empty if it says nothing of it."""
    return f" ({message.strip()})" if message.startswith("draining:") else ""


def offline(exporter: Exporter) -> ExporterOffline:
    """Return the error of an exporter that is offline."""
    return ExporterOffline(f"exporter {exporter.name} is offline: {exporter.status_message or 'no reason given'}")


def is_ready(exporter: Exporter) -> bool:
    """Return whether an exporter can be dialled: its beforeLease hook, if it has one, has ended."""
    is_older_than_0_8 = exporter.status == "UNSPECIFIED"
    return exporter.status == "LEASE_READY" or (is_older_than_0_8 and exporter.online)


def raise_if_failed(exporter: Exporter) -> None:
    """Raise an error if the beforeLease hook of an exporter has failed, or it is offline."""
    if failure := before_hook_failure(f"exporter {exporter.name}", exporter.status, exporter.status_message):
        raise failure
    is_older_than_0_8 = exporter.status == "UNSPECIFIED"
    if exporter.status == "OFFLINE" or not (exporter.online or is_older_than_0_8):
        raise offline(exporter)


def before_hook_failure(who: str, status: str, message: str, previous: str = "") -> HookFailed | None:
    """
    Return the error for a failed beforeLease hook; None if it has not failed.

    Args:
        who: The exporter, for the message.
        status: The exporter's status.
        message: What it says of it.
        previous: The status before, if it is known.
    """
    is_down = status == "OFFLINE" and "beforeLease hook" in message
    if is_down or "BEFORE_LEASE_HOOK_FAILED" in (status, previous):
        return HookFailed(f"{who}: {message or 'beforeLease hook failed'}")
    return None


def after_hook_failure(who: str, status: str, message: str) -> str:
    """Return why an afterLease hook failed, or its warning; empty if it did not."""
    is_down = status == "OFFLINE" and "afterLease hook" in message
    if is_down or status == "AFTER_LEASE_HOOK_FAILED":
        return f"{who}: {message or 'afterLease hook failed'}"
    warning = hook_warning(message)
    return f"{who}: {warning}" if warning else ""


def leave_release_to_exporter(failure: HookFailed, client: Client, lease: str) -> None:
    """
    Wait until the exporter has released the lease itself, if it does so after this failure of its beforeLease hook.

    Exporter 0.9 releases, a second after the failure, the lease that it has by then. If that is another one, because
    this one was deleted meanwhile, it ends the other one, or stays in BEFORE_LEASE_HOOK_FAILED for good.
    """
    if _RELEASES not in str(failure):
        return
    for _ in polls(OWN_RELEASE_TIMEOUT):
        with suppress(RequestError):
            if client.get_lease(lease, timeout=OWN_RELEASE_TIMEOUT).is_ended:
                return


def was_released_by_exporter(status: str, message: str) -> bool:
    """Return whether the exporter released the lease itself, which it does when its beforeLease hook has failed."""
    return status == "AVAILABLE" and _RELEASED in message

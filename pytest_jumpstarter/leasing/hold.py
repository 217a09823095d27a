"""
A lease in our hands: `Hold` is ours from request to release, `Adopted` is somebody else's.

Only the process that created a lease releases it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from pytest_jumpstarter.client.v1 import Client, Exporter, Lease, Route
from pytest_jumpstarter.errors import (
    AlreadyReleased,
    ConfigError,
    JumpstarterError,
    LeaseUnsatisfiable,
    NotFound,
    RequestError,
    TransportError,
)
from pytest_jumpstarter.leasing.request import LeaseRequest, Wanted
from pytest_jumpstarter.leasing.waiting import Waiter, attempts

RELEASE_TIMEOUT = 5.0
"""Seconds for the lab controller to take a release, and again to confirm it."""

_CREATE_MAY_BE_UNDER_WAY = 1.0


class Hold:
    """
    One lease of ours.

    Args:
        name: The lease id, never used before.
        on_pending: Called once the request has left: time to do what takes long while the lease is pending.

    Attributes:
        lease: The lease as last seen; None before `acquire`.
        exporter: Its exporter, ready; None before `acquire`.
        failure: Why the lease could not be given back; empty if all is well.
    """

    is_ours = True

    def __init__(
        self,
        client: Client,
        wanted: Wanted,
        request: LeaseRequest,
        *,
        name: str,
        say: Callable[[str], None],
        on_pending: Callable[[], None],
    ) -> None:
        self.name = name
        self.lease: Lease | None = None
        self.exporter: Exporter | None = None
        self.failure = ""
        self._client = client
        self._request = request
        self._waiter = Waiter(client, wanted, say)
        self._on_pending = on_pending
        self._owner = 0
        self._is_created = False

    def acquire(self) -> Lease:
        """
        Request the lease, wait until it is Ready, then until its exporter is.

        On any failure, an interrupt included, the lease is given back before the error goes on.

        Raises:
            LeaseUnsatisfiable, LeaseTimeout, LeaseLost, HookFailed, ExporterOffline, RequestError: See `Waiter`.
        Source: jumpstarter.client.v1.ClientService CreateLease, GetLease, GetExporter
        """
        self._owner = os.getpid()  # from here on there may be a lease
        try:
            self.lease = self._create()
            self.name, self._is_created = self.lease.name, True  # the name it came back with is the one that counts
            self._on_pending()
            self.lease = self._waiter.until_ready(self.name)
            self.exporter = self._waiter.until_exporter_ready(self.lease)
        except BaseException:
            self.release()
            raise
        return self.lease

    def dial(self) -> Route:
        """Return a route to the exporter, good for one stream; see `Waiter.dial`."""
        return self._waiter.dial(self.name)

    def release(self) -> None:
        """
        Give the lease back and see it ended; a second call, or one in a forked child, does nothing.

        A failure is kept in `failure`, with the command that would do it by hand.

        Source: jumpstarter.client.v1.ClientService DeleteLease, GetLease
        """
        owner, self._owner = self._owner, 0
        if owner != os.getpid():
            return
        try:
            if self._delete():
                self._confirm()
        except RequestError as exc:
            self.failure = f"lease {self.name} may still be held: {exc}; to release it: jmp delete leases {self.name}"

    def _create(self) -> Lease:
        """Ask for the lease; where the answer rules out that there is one, there is nothing to give back either."""
        try:
            return self._client.create_lease(
                lease_id=self.name,
                selector=self._request.selector,
                exporter_name=self._request.exporter,
                duration=self._request.duration,
                tags=self._request.tags,
            )
        except JumpstarterError as exc:
            response = exc.response if isinstance(exc, RequestError) else None
            if response is None or not response.leaves_open:  # without an answer, nothing was sent
                self._owner = 0
            raise

    def _delete(self) -> bool:
        """Delete the lease, again while the lab controller is away; tell whether there was one."""
        trouble: RequestError | None = None
        for elapsed in attempts(RELEASE_TIMEOUT):
            try:
                self._client.delete_lease(self.name)
                return True
            except AlreadyReleased:
                return True  # the exporter itself releases after an afterLease hook
            except NotFound:
                # An interrupted create may still be on its way: wait for it rather than leave it behind.
                if self._is_created or elapsed > _CREATE_MAY_BE_UNDER_WAY:
                    return False
            except TransportError as exc:
                trouble = exc
        if trouble is not None:
            raise trouble
        return False

    def _confirm(self) -> None:
        """Wait until the lab controller shows the lease as ended: deleting only asks for it."""
        for _ in attempts(RELEASE_TIMEOUT):
            try:
                self.lease = self._client.get_lease(self.name)
            except NotFound:
                return
            if self.lease.is_ended:
                return
        self.failure = (
            f"lease {self.name} was released but is still active after {RELEASE_TIMEOUT:.0f}s; "
            f"to release it: jmp delete leases {self.name}"
        )


class Adopted:
    """
    An existing lease that somebody made for us (`--jmp-lease`, `JMP_LEASE`): used, never released.

    Attributes: as `Hold`.
    """

    is_ours = False
    failure = ""

    def __init__(
        self, client: Client, wanted: Wanted, *, say: Callable[[str], None], on_pending: Callable[[], None]
    ) -> None:
        self.name = str(wanted.lease)
        self.lease: Lease | None = None
        self.exporter: Exporter | None = None
        self._client = client
        self._wanted = wanted
        self._waiter = Waiter(client, wanted, say)
        self._on_pending = on_pending

    def acquire(self) -> Lease:
        """
        Check that the lease is ours to use, and wait until it and its exporter are ready.

        Raises:
            ConfigError: There is no such lease, it has ended, or it belongs to another client.
            LeaseTimeout, LeaseLost, HookFailed, ExporterOffline: See `Waiter`.
        """
        self._check()
        self._on_pending()
        self.lease = self._waiter.until_ready(self.name)
        self.exporter = self._waiter.until_exporter_ready(self.lease)
        return self.lease

    def dial(self) -> Route:
        """Return a route to the exporter, good for one stream; see `Waiter.dial`."""
        return self._waiter.dial(self.name)

    def release(self) -> None:
        """Do nothing: whoever made the lease gives it back."""

    def _check(self) -> None:
        asked = f"{self.name} ({self._wanted.lease_source})"
        try:
            lease = self._client.get_lease(self.name)
        except NotFound as exc:
            raise ConfigError(f"lease {asked} does not exist; jmp get leases shows those that do") from exc
        if lease.client != self._client.name:
            raise ConfigError(f"lease {asked} belongs to client {lease.client!r}, and we are {self._client.name!r}")
        if lease.is_ended:
            why = f": {lease.refusal.message}" if lease.refusal else ""
            raise LeaseUnsatisfiable(f"lease {asked} has already ended{why}")

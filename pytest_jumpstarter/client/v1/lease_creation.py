"""
Creating exactly one lease: a CreateLease may have succeeded although it returned an error.

Every try has the same lease id. GetLease tells whether the lease exists; where the lab controller gives leases names of
its own, so that a second try makes a second lease, the tag `lease` tells it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpc import StatusCode

from pytest_jumpstarter.client.v1.controller_connection import ControllerConnection
from pytest_jumpstarter.client.v1.facts import Lease
from pytest_jumpstarter.client.v1.request import Request
from pytest_jumpstarter.client.v1.response import Response
from pytest_jumpstarter.errors import AlreadyExists, NotFound, RequestError, StatusError
from pytest_jumpstarter.host import real_time

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1.client import Client

ID_TAG = "lease"
"""The tag whose value is the lease id, whatever name the lease gets."""

_PAUSES = (0.2, 0.5, 1.0)  # seconds before each look for a lease that may exist


def tagged(client: Client, lease_id: str, *, timeout: float | None = None) -> list[Lease]:
    """
    Return the active leases of this client that were requested with an id, and with the tag that says so.

    Source: jumpstarter.client.v1.ClientService ListLeases; nothing is sent if the installed stubs have no tags
    """
    if not client.supports("ListLeasesRequest.tag_filter"):
        return []
    leases = client.list_leases(tag_filter=f"{ID_TAG}={lease_id}", timeout=timeout)
    return [lease for lease in leases if lease.client == client.name]


class LeaseCreation:
    """
    The creation of one lease.

    Args:
        request: The CreateLease.
    """

    def __init__(self, client: Client, connection: ControllerConnection, request: Request) -> None:
        self._client = client
        self._connection = connection
        self._request = request
        body: Any = request.body
        self._id: str = body.lease_id
        self._is_tagged = dict(getattr(body.lease, "tags", {})).get(ID_TAG) == self._id

    def settle(self, timeout: float, *, may_exist: bool) -> Lease:
        """
        Send CreateLease until it is known whether the lease exists.

        It is only sent again when the lab controller has said that there is no such lease: by name, and by tag where
        leases may have other names.

        Args:
            timeout: Seconds to find out, after the first try has failed.
            may_exist: Whether to look before the first try.
        """
        if may_exist and (found := self._find(timeout)) is not None:
            return self._ours(found)
        first = response = self._client.send(self._request)
        deadline = real_time.monotonic() + timeout
        for pause in _PAUSES:
            left = deadline - real_time.monotonic() - pause
            if _is_settled(response, first) or left <= 0 or self._connection.wait_closed(pause):
                break
            try:
                found = self._find(left)
            except RequestError:
                continue
            if found is not None:
                return self._ours(found, response)
            if not (self._is_tagged or self._client.keeps_ids):
                break
            response = self._connection.call(self._request, timeout=max(deadline - real_time.monotonic(), 0.1))
        if _is_settled(response, first):
            return self._learned(Lease.from_message(response.raise_for_status().body))
        error = first.error()
        unknown = f"{error}; it is unknown whether lease {self._id} exists"
        raise type(error)(unknown, request=self._request, response=first)

    def _find(self, timeout: float) -> Lease | None:
        """Return the lease, whatever its name is; None if it does not exist."""
        try:
            return self._client.get_lease(self._id, timeout=timeout)
        except NotFound:
            return next(iter(tagged(self._client, self._id, timeout=timeout)), None) if self._is_tagged else None

    def _ours(self, lease: Lease, response: Response | None = None) -> Lease:
        if lease.client == self._client.name:
            return self._learned(lease)
        raise AlreadyExists(
            f"CreateLease at {self._client.endpoint}: lease {lease.name} belongs to client {lease.client}, "
            f"not to {self._client.name}",
            request=self._request,
            response=response,
        )

    def _learned(self, lease: Lease) -> Lease:
        self._client.keeps_ids = lease.name == self._id
        return lease


def _is_settled(response: Response, first: Response) -> bool:
    """
    Return whether an answer to CreateLease is final.

    "Already exists" is not final if an earlier try may have created the lease; an unreachable lab controller neither.
    """
    if response is not first and response.code is not StatusCode.OK:
        error = response.error()
        return isinstance(error, StatusError) and not isinstance(error, AlreadyExists) and not response.leaves_open
    return not response.leaves_open

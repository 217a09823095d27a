"""
Creating exactly one lease: a CreateLease may have succeeded although it returned an error.

Every try has the same lease id, so that there can be no second lease. GetLease tells whether the lease exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpc import StatusCode

from pytest_jumpstarter.client.v1.controller_connection import ControllerConnection
from pytest_jumpstarter.client.v1.facts import Lease
from pytest_jumpstarter.client.v1.request import Request
from pytest_jumpstarter.client.v1.response import Response
from pytest_jumpstarter.errors import AlreadyExists, NotFound, StatusError, TransportError
from pytest_jumpstarter.host import real_time

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1.client import Client

_PAUSES = (0.2, 0.5, 1.0)  # seconds before each GetLease for a lease that may exist


class LeaseCreation:
    """The creation of one lease."""

    def __init__(self, client: Client, connection: ControllerConnection) -> None:
        self._client = client
        self._connection = connection

    def settle(self, request: Request, name: str, *, timeout: float) -> Lease:
        """
        Send CreateLease until it is known whether the lease exists.

        Args:
            request: The CreateLease.
            name: The lease id in it.
            timeout: Seconds to find out, after the first try has failed.
        """
        first = response = self._client.send(request)
        deadline = real_time.monotonic() + timeout
        for pause in _PAUSES:
            left = deadline - real_time.monotonic() - pause
            if _is_settled(response, first) or left <= 0 or self._connection.wait_closed(pause):
                break
            if (found := self._find(name, timeout=left)) is not None:
                return self._ours(found, response)
            response = self._connection.call(request, timeout=max(deadline - real_time.monotonic(), 0.1))
        if _is_settled(response, first):
            return Lease.from_message(response.raise_for_status().body)
        error = first.error()
        raise type(error)(f"{error}; it is unknown whether lease {name} exists", request=request, response=first)

    def _find(self, name: str, *, timeout: float) -> Lease | None:
        """Return the lease; None if it does not exist, or the lab controller does not answer."""
        try:
            return self._client.get_lease(name, timeout=timeout)
        except (NotFound, TransportError):
            return None

    def _ours(self, lease: Lease, response: Response) -> Lease:
        if lease.client == self._client.name:
            return lease
        raise AlreadyExists(
            f"CreateLease at {self._client.endpoint}: lease {lease.name} belongs to client {lease.client}, "
            f"not to {self._client.name}",
            request=response.request,
            response=response,
        )


def _is_settled(response: Response, first: Response) -> bool:
    """
    Return whether an answer to CreateLease is final.

    "Already exists" is not final if an earlier try may have created the lease; an unreachable lab controller neither.
    """
    if response is not first and response.code is not StatusCode.OK:
        error = response.error()
        return isinstance(error, StatusError) and not isinstance(error, AlreadyExists) and not response.leaves_open
    return not response.leaves_open

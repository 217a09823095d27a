"""`OwnTags`: the tags that this plugin adds to leases, as long as the lab allows them."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_jumpstarter.client.v1.lease_creation import ID_TAG
from pytest_jumpstarter.errors import InvalidArgument
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.lease_request import LeaseRequest

_REFUSED = "invalid lease tags"


class OwnTags:
    """
    The tags that this plugin adds to leases.

    A lab's administrators may allow fewer tags than these (`leasePolicy.maxTags`). Tags are notes, so a lease is
    requested without them then.

    Args:
        tags: The tags.
        events: Receives a line for the user when the lab refuses them.
    """

    def __init__(self, tags: Mapping[str, str], events: Events) -> None:
        self._tags = dict(tags)
        self._events = events
        self._are_refused = False

    def allowed(self) -> dict[str, str]:
        """Return the tags; none if the lab has refused them."""
        return {} if self._are_refused else dict(self._tags)

    def of(self, request: LeaseRequest, lease_id: str) -> dict[str, str]:
        """Return the tags of a lease: those of its request, and the one by which the lease is found."""
        if not self._are_refused:
            return request.tags | {ID_TAG: lease_id}
        return {key: value for key, value in request.tags.items() if self._tags.get(key) != value}

    def drop(self, refusal: InvalidArgument) -> bool:
        """Leave these tags out from now on, but not those of hooks; return whether the request may succeed then."""
        if _REFUSED not in str(refusal) or self._are_refused:
            return False
        self._are_refused = True
        self._events.say_once(f"leases have no tags of ours, so the lab does not show whose they are: {refusal}")
        return True

"""`OwnTags`: the tags that this plugin adds to leases, as long as the lab allows them."""

from __future__ import annotations

from collections.abc import Mapping

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

    def allowed(self) -> dict[str, str]:
        """Return the tags; none if the lab has refused them."""
        return dict(self._tags)

    def drop(self, request: LeaseRequest, refusal: InvalidArgument) -> bool:
        """Remove these tags from a request, but not those of hooks; return whether it may succeed now."""
        others = {key: value for key, value in request.tags.items() if self._tags.get(key) != value}
        if _REFUSED not in str(refusal) or others == request.tags:
            return False
        request.tags = others
        self._tags.clear()
        self._events.say(f"leases have no tags of ours, so the lab does not show whose they are: {refusal}")
        return True

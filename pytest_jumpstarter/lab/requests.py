"""
Checks of the tags, times and names in requests.

Source: jumpstarter/client/v1/client.proto, and the behaviour of the production controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from jumpstarter_protocol import client_pb2

from pytest_jumpstarter.lab import wire
from pytest_jumpstarter.lab.documents import is_object_name
from pytest_jumpstarter.lab.kubernetes import SUBDOMAIN, label_key_faults, label_value_faults
from pytest_jumpstarter.lab.model import OWN_PREFIX, TAG_PREFIX
from pytest_jumpstarter.lab.refusal import Refusal
from pytest_jumpstarter.selector import Selector

MAX_TAGS = 10

_INVALID = grpc.StatusCode.INVALID_ARGUMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The requested times of a lease in seconds; `settle` computes a missing one."""

    begin_time: float | None
    end_time: float | None
    duration: float | None

    @classmethod
    def of(cls, lease: client_pb2.Lease) -> Times:
        """Return the times in a request."""
        return cls(
            begin_time=wire.seconds(lease.begin_time) if lease.HasField("begin_time") else None,
            end_time=wire.seconds(lease.end_time) if lease.HasField("end_time") else None,
            duration=wire.seconds(lease.duration) if lease.HasField("duration") else None,
        )

    def settle(self) -> Times:
        """Return the times with the missing one computed; refuse times that contradict each other."""
        begin, duration = self.begin_time, self.duration
        if begin is not None and self.end_time is not None:
            span = self.end_time - begin
            if duration is not None and duration > 0 and abs(duration - span) > 1e-6:
                raise Refusal("duration conflicts with begin_time and end_time")
            duration = span
        elif self.end_time is not None and duration is not None and duration > 0:
            begin = self.end_time - duration
        if duration is None:
            raise Refusal("duration is required (must specify Duration, or both BeginTime and EndTime)")
        if duration <= 0:
            raise Refusal(f"duration must be positive, got {_go_duration(duration)}")
        return Times(begin_time=begin, end_time=self.end_time, duration=duration)


def check_target(request: client_pb2.CreateLeaseRequest) -> None:
    """Refuse a request with neither a selector nor an exporter name."""
    if not request.HasField("lease"):
        raise Refusal("lease is required", _INVALID)
    if not request.lease.selector and not request.lease.exporter_name:
        raise Refusal("one of selector or exporter_name is required", _INVALID)


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse tags that are not valid as labels of the lease."""
    try:
        if len(tags) > MAX_TAGS:
            raise ValueError(f"too many tags: {len(tags)} (maximum {MAX_TAGS})")
        for key, value in tags.items():
            _check_tag(key, value)
    except ValueError as error:
        raise Refusal(f"invalid lease tags: {error}", _INVALID) from error


def check_lease(name: str, selector: Selector | None, exporter_name: str) -> None:
    """Refuse a lease that Kubernetes would refuse: by its name, or because it asks for nothing."""
    if not is_object_name(name):
        raise Refusal(f'Lease.jumpstarter.dev "{name}" is invalid: metadata.name: Invalid value: "{name}": {SUBDOMAIN}')
    if selector is None and not exporter_name:
        raise Refusal(
            f'Lease.jumpstarter.dev "{name}" is invalid: spec: Invalid value: "object":'
            " one of selector or exporterRef.name is required"
        )


def _check_tag(key: str, value: str) -> None:
    if key.startswith((OWN_PREFIX, TAG_PREFIX)):
        raise ValueError(f'tag key "{key}" must not use reserved prefix')
    if "/" in key:
        raise ValueError(f"tag key \"{key}\" must not contain '/' (use simple names without prefix)")
    if faults := label_key_faults(key):
        raise ValueError(f'tag key "{key}" is not a valid label key: {faults}')
    if faults := label_value_faults(value):
        raise ValueError(f'tag value for key "{key}" is not a valid label value: {faults}')


def _go_duration(value: float) -> str:
    """Format seconds as Go formats a duration: `0s`, `-1m30s`, `-1h0m0s`."""
    sign, rest = ("-", -value) if value < 0 else ("", value)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    text = f"{rest:.9f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{sign}{int(hours)}h{int(minutes)}m{text}"
    return f"{sign}{int(minutes)}m{text}" if minutes else f"{sign}{text}"

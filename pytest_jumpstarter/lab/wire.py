"""
The state of the lab as protobuf messages, and conversions of times and durations.

Source: jumpstarter/client/v1/client.proto. Timestamps of the lab are rounded down to whole seconds, as Kubernetes
stores them.
"""

from __future__ import annotations

import time

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from jumpstarter_protocol import client_pb2, jumpstarter_pb2, kubernetes_pb2

from pytest_jumpstarter.lab.model import Condition, Exporter, Lease

_MOST_NANOS = 2**63 - 1  # Go's time.Duration is a signed 64-bit count of nanoseconds
_LONGEST = _MOST_NANOS / 1e9

_OPERATORS = {"in": "In", "notin": "NotIn", "exists": "Exists", "!exists": "DoesNotExist"}


def seconds(message: Duration | Timestamp) -> float:
    """Return a duration or timestamp in seconds; a duration is at most 292 years."""
    value = message.seconds + message.nanos / 1e9
    return max(-_LONGEST, min(value, _LONGEST)) if isinstance(message, Duration) else value


def duration(value: float) -> Duration:
    """Return a duration of `value` seconds as a message."""
    whole, nanos = divmod(min(round(value * 1e9), _MOST_NANOS), 10**9)
    return Duration(seconds=whole, nanos=nanos)


def timestamp(value: float) -> Timestamp:
    """Return a time as a message, rounded down to whole seconds."""
    return Timestamp(seconds=int(value // 1))


def exporter_message(exporter: Exporter) -> client_pb2.Exporter:
    """Return an exporter as a message for clients."""
    return client_pb2.Exporter(
        name=f"namespaces/{exporter.namespace}/exporters/{exporter.name}",
        labels=exporter.labels,
        online=exporter.is_online,
        status=int(exporter.status),
        status_message=exporter.status_message,
        enabled=exporter.is_enabled,
    )


def lease_message(lease: Lease) -> client_pb2.Lease:
    """Return a lease as a message for clients."""
    message = client_pb2.Lease(
        name=f"namespaces/{lease.namespace}/leases/{lease.name}",
        selector=str(lease.selector) if lease.selector else "<none>",
        client=f"namespaces/{lease.namespace}/clients/{lease.client}",
        conditions=map(_condition_message, lease.conditions.values()),
        tags=lease.tags,
        allow_disabled=lease.allow_disabled,
    )
    _add_request(message, lease)
    _add_effect(message, lease)
    return message


def legacy_lease_message(lease: Lease, exporter: Exporter | None) -> jumpstarter_pb2.GetLeaseResponse:
    """Return a lease as a message for clients before 0.7."""
    terms = lease.selector.terms if lease.selector else ()
    message = jumpstarter_pb2.GetLeaseResponse(
        selector=kubernetes_pb2.LabelSelector(
            match_labels=lease.selector.match_labels if lease.selector else {},
            match_expressions=[
                kubernetes_pb2.LabelSelectorRequirement(
                    key=term.key, operator=_OPERATORS[term.operator], values=term.values
                )
                for term in terms
                if term.operator != "="
            ],
        ),
        conditions=map(_condition_message, lease.conditions.values()),
        exporter_uuid=exporter.uid if exporter else None,
    )
    if lease.duration is not None:
        message.duration.CopyFrom(duration(lease.duration))
    if lease.assigned is not None:
        message.begin_time.CopyFrom(timestamp(lease.assigned))
    if lease.ended is not None and lease.exporter is not None:
        message.end_time.CopyFrom(timestamp(lease.ended))
    return message


def _add_request(message: client_pb2.Lease, lease: Lease) -> None:
    if lease.exporter_name:
        message.exporter_name = lease.exporter_name
    if lease.duration is not None:
        message.duration.CopyFrom(duration(lease.duration))
    if lease.begin_time is not None:
        message.begin_time.CopyFrom(timestamp(lease.begin_time))
    if lease.end_time is not None:
        message.end_time.CopyFrom(timestamp(lease.end_time))


def _add_effect(message: client_pb2.Lease, lease: Lease) -> None:
    """Add the effective times; a lease that never had an exporter has none, not even an end."""
    if lease.exporter is None or lease.assigned is None:
        return
    message.exporter = f"namespaces/{lease.namespace}/exporters/{lease.exporter}"
    begin = lease.assigned // 1
    message.effective_begin_time.CopyFrom(timestamp(begin))
    if lease.ended is not None:
        message.effective_end_time.CopyFrom(timestamp(lease.ended))
    end = time.time() if lease.ended is None else lease.ended // 1
    message.effective_duration.CopyFrom(duration(max(end - begin, 0.0)))


def _condition_message(condition: Condition) -> kubernetes_pb2.Condition:
    return kubernetes_pb2.Condition(
        type=condition.type,
        status=str(condition.status),
        observedGeneration=condition.generation,
        lastTransitionTime=kubernetes_pb2.Time(seconds=int(condition.changed), nanos=0),
        reason=condition.reason,
        message=condition.message,
    )

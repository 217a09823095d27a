"""The lab answers `grpc.health.v1` as production does: to everybody, without a token."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pytest_jumpstarter.client.v1 import ClientConfig
from pytest_jumpstarter.lab import Lab

SERVING = health_pb2.HealthCheckResponse.SERVING


def stub(lab: Lab) -> Any:
    """Return what calls the lab without a token."""
    config = ClientConfig.load(lab.client_config, environ={})
    return health_pb2_grpc.HealthStub(grpc.secure_channel(lab.endpoint, config.tls.credentials(lab.endpoint)))


def test_lab_is_serving(lab: Lab) -> None:
    """A probe without a token learns that the lab serves, once or in a stream."""
    health = stub(lab)
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=20).status == SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
    assert next(watch).status == SERVING
    watch.cancel()

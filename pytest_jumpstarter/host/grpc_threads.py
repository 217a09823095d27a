"""
Which threads of gRPC read from sockets: in the process of the tests, and in those of the lab.

By default gRPC reads in a pool of threads, which hand each piece of data on to the thread that waits for a call. It
still has its older way, too, where that thread reads by itself: half the thread switches for each frame, and a third
less CPU time. Both are gRPC's own; the choice is a variable of its documentation on experiments.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

_VARIABLE = "GRPC_EXPERIMENTS"
_OLDER_WAY = "-event_engine_client,-event_engine_listener"
_LAST_MINOR = 85
"""Of the releases of gRPC that were tried; one that does not know these words would complain."""


@contextmanager
def read_where_waiting() -> Iterator[None]:
    """Choose the older way if gRPC is imported meanwhile; a value of the user stays. Programs do not inherit it."""
    is_ours = _VARIABLE not in os.environ and _knows_both(version("grpcio"))
    if is_ours:
        os.environ[_VARIABLE] = _OLDER_WAY
    try:
        yield
    finally:
        if is_ours:
            os.environ.pop(_VARIABLE, None)


def _knows_both(release: str) -> bool:
    major, minor = release.split(".")[:2]
    return major == "1" and int(minor) <= _LAST_MINOR

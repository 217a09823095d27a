"""All uses of gRPC's private API, each with its reason."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

MODULES_OF_USE = ("grpc._channel", "grpc._server")
"""gRPC imports these with the first channel or server of a process."""


def read_variables_again() -> bool:
    """
    Let an imported gRPC read its environment variables again; return whether it has done so in time.

    Reason: gRPC reads them when it is imported, and takes over what they say of forks with the first channel or server
    of the process. The function is that of gRPC's own tests, which set variables too.
    """
    if any(name in sys.modules for name in MODULES_OF_USE):
        return False
    cygrpc: Any = import_module("grpc._cython.cygrpc")
    try:
        if cygrpc._fork_state.fork_handler_registered:
            return False
        cygrpc.reset_grpc_config_vars()
    except AttributeError:  # a release that was not tested
        return False
    cygrpc._GRPC_ENABLE_FORK_SUPPORT = False  # the part in Python, which older releases have on by default
    return True


def import_channels() -> None:
    """
    Import what gRPC imports with the first channel.

    Reason: later would be too late to replace its clock.
    """
    with suppress(ImportError):
        import_module("grpc._channel")

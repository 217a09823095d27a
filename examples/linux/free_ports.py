"""Jumpstarter's QEMU driver on ports of this machine that are free."""

# Jumpstarter's driver API has no types.
# mypy: disable-error-code="no-untyped-call,dict-item,misc"

from __future__ import annotations

import socket
from dataclasses import dataclass

from jumpstarter_driver_qemu.driver import Qemu


@dataclass(kw_only=True)
class QemuOnFreePorts(Qemu):
    """A machine whose forwarded ports are chosen here: those without `hostport` get one that is free."""

    def __post_init__(self) -> None:
        self.hostfwd = {name: {"hostport": free_port(), **forward} for name, forward in self.hostfwd.items()}
        super().__post_init__()


def free_port() -> int:
    """Return a port of this machine on which nothing listens now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port

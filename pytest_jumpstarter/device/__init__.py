"""
The device in a test's hands, and the way to it.

- `portal`: the one event loop beside the tests, in which Jumpstarter's driver clients and the tunnel run.
- `tunnel`: a unix socket on this side, the exporter's gRPC server on the other.
- `connection`: the way to the driver clients over such a socket, or over one that a shell already made.
- `drivers`: the tree of driver clients: dotted paths, and clear words for the ones that are missing. `lazy`: each of
  them made by Jumpstarter's own code when it is first looked up.
- `calls`: plain driver calls, made in the thread that waits for them.
- `device`: `Device`, the stable handle that a fixture yields.
- `exporter_log`: what the exporter says: its drivers, its hooks, itself.
- `shared_port`: the one reader of a serial port. `recording`: what came out of it. `console`: `Console`, used like a
  pexpect session.

Nothing here knows pytest, leases or the lab controller.
"""

from __future__ import annotations

from pytest_jumpstarter.device.device import Device, ExporterIdentity

__all__ = ["Device", "ExporterIdentity"]

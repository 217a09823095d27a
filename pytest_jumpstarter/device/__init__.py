"""
The device that a test gets, and the connection to its exporter.

- `portal`: the one event loop, in a thread of its own. Jumpstarter's driver clients and the tunnel run in it.
- `tunnel`: a unix socket on this machine whose connections end at the exporter's gRPC server. `relay`: copies one of
  them. `socket_end`: its local end.
- `exporter_connection`: connects to an exporter, through a tunnel or over a channel, and reads its drivers.
- `drivers`: the driver clients of a device by their dotted paths, and clear errors for those that cannot be used.
- `driver_builder`: builds each driver client, with Jumpstarter's own code, when it is first looked up.
- `blocking_calls`: makes plain driver calls in the thread that waits for their result.
- `device`: `Device`, the stable handle that a fixture yields.
- `call_window`: since when a call ran that failed.
- `console`: `Console`, which is used like a pexpect session.
- `shared_port`: the only reader of a serial port; everybody else reads from it. `recording`: its output on disk.
- `exporter_log`: the log messages of the exporter, its drivers and its hooks.

Nothing here knows pytest, leases or the lab controller.
"""

from __future__ import annotations

from pytest_jumpstarter.device.device import Device, ExporterIdentity

__all__ = ["Device", "ExporterIdentity"]

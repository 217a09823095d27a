"""
The device that a test gets, and the connection to its exporter.

- `portal`: the one event loop, in a thread of its own. Jumpstarter's driver clients and the tunnel run in it.
- `tunnel`: a unix socket on this machine whose connections end at the exporter's gRPC server. `relay`: copies one of
  them. `socket_end`: its local end.
- `exporter_connection`: connects to an exporter, through a tunnel or over a channel, and reads its drivers.
  `channel_target`: where it is reached, for channels in the event loop and for blocking ones.
- `drivers`: the driver clients of a device by their dotted paths. `missing_driver`: replaces one that cannot be used.
- `driver_builder`: builds each driver client, with Jumpstarter's own code, when it is first looked up.
- `lazy_adapters`: imports those of Jumpstarter's adapters that are needed.
- `lazy_composite`: the client of a driver that only holds others, whose clients are built when they are first used.
- `blocking_calls`: makes plain driver calls in the thread that waits for their result. `streaming_calls`: streams of
  driver calls end when nobody reads them.
- `blocking_channel`: questions to an exporter over a blocking channel, and the errors of such a channel.
- `device`: `Device`, the stable handle that a fixture yields. `connected_device`: what is behind it. `board`: `Board`,
  whose class declares the drivers. `device_state`: `dut.state`, which board state of the suite it is in.
- `call_window`: since when a call ran that failed.
- `console`: `Console`, which is used like a pexpect session. `console_defaults`: its settings at first. `session`: the
  pexpect session behind it. `searching`: its search in what came. `patterns`: how much of that must be searched again.
  `decoding`: bytes to text. `quoted`: what messages quote of it, and of errors.
- `serial_ports`: the serial ports of a device. `shared_port`: the only reader of a serial port; everybody else reads
  from it. `recording`: its output on disk. `port_reader`: reads that in another thread. `line_follower`: passes its
  lines on while they come.
- `board_results`: results of tests that run on the board, from what a console prints.
- `flashing`: flashes an image once in a lease. `transfers`: counts what is sent and fetched.
- `command`: the result of a command on a board, its errors, and what all shells have. `shell`: `Shell` on a console,
  `UBootShell`. `prompt_shells`: `ZephyrShell`, `PlainShell`. `ssh_shell`: `SshShell`. `started`: a command in the
  background. `shell_files`: small files over a console. `shell_login`: from a boot to a prompt.
- `shell_language`: what is sent for a command, and how its answer is recognised. `prompt_console`: typing, waiting and
  prompts. `exchanges`: sends a command and reads its answer.
- `exporter_status`: the status of an exporter, from the exporter itself.
- `exporter_log`: the log messages of the exporter, its drivers and its hooks.

Nothing here knows pytest, leases or the lab controller.
"""

from __future__ import annotations

from pytest_jumpstarter.device.connected_device import ExporterIdentity
from pytest_jumpstarter.device.device import Device

__all__ = ["Device", "ExporterIdentity"]

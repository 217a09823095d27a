"""
Every wait of the package, and what bounds it: no run hangs for want of an answer.

A row names the functions that wait, what they wait for, and the bound: constants of the package, options, arguments.
Other rows may be meant by name. The embedded lab's server is not here: it serves until it is stopped.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wait:
    """
    A kind of wait.

    Attributes:
        places: The functions that wait, as `path/of/module.py:Class.method`; more than one are separated by spaces.
        awaited: What they wait for.
        bound: When the wait ends at the latest; constants by their names.
    """

    places: str
    awaited: str
    bound: str


WAITS = (
    # The lab controller
    Wait(
        "client/v1/client.py:Client._send client/v1/client.py:Client.create_lease client/v1/client.py:Client._do "
        "client/v1/client.py:Client._pages client/v1/controller_connection.py:ControllerConnection.call "
        "client/v1/controller_connection.py:ControllerConnection.wait_closed "
        "client/v1/lease_creation.py:LeaseCreation.settle client/v1/lease_creation.py:LeaseCreation._find",
        "one request, reads repeated",
        "the timeout of the request; 15 s where the caller names none",
    ),
    Wait(
        "client/v1/controller_connection.py:ControllerConnection._open client/v1/tls.py:_first_certificate",
        "the certificate of a server that is not verified",
        "5 s, or the timeout of the request if that is less",
    ),
    Wait(
        "leasing/waiting.py:Waiter.until_requested leasing/own_lease.py:OwnLease._create "
        "leasing/own_lease.py:OwnLease._lease_of_earlier_request",
        "a lease to be created",
        "--jmp-wait; CONTROLLER_GRACE where the lab controller has never answered; CALL_TIMEOUT for each request",
    ),
    Wait(
        "leasing/waiting.py:Waiter.until_ready leasing/polling.py:polls leasing/waiting.py:attempts",
        "a lease to be Ready",
        "--jmp-wait; at least DECISION_TIMEOUT, or SHORTEST_PATIENCE to LONGEST_PATIENCE with another lease at hand; "
        "lines from _QUIET on, the late ones _SURVEY_EVERY",
    ),
    Wait(
        "leasing/waiting.py:Waiter.until_exporter_ready",
        "the exporter of a Ready lease, whose beforeLease hook may run",
        "HOOK_TIMEOUT; CALL_TIMEOUT for each request",
    ),
    Wait(
        "leasing/waiting.py:Waiter.until_cleaned_up",
        "an afterLease hook",
        "AFTER_HOOK_TIMEOUT; _HOOK_STARTS where there is no hook",
    ),
    Wait(
        "leasing/waiting.py:Waiter.dial leasing/waiting.py:Waiter._raise_if_known_ended",
        "a route to the exporter",
        "DIAL_TIMEOUT the first time, then CONTROLLER_GRACE, or EXPORTER_RESTART where the exporter is not there; "
        "trouble by leasing/patience.py: SECOND_LOOK, UNKNOWN_PATIENCE",
    ),
    Wait(
        "leasing/keeper.py:Keeper._run leasing/lease.py:ManagedLease.look "
        "leasing/lease.py:ManagedLease._loss_of_exporter leasing/own_lease.py:OwnLease._extend",
        "the lab controller, of a lease that is held",
        "--jmp-ttl (DEFAULT_TTL, at least SHORTEST_TTL); every LOOK_INTERVAL, _LONGEST_REQUEST for each request",
    ),
    Wait("leasing/keeper.py:Keeper.stop", "the keeper's thread", "LOOK_INTERVAL; it is a daemon"),
    Wait(
        "leasing/lease.py:ManagedLease._left leasing/own_lease.py:OwnLease.reserve",
        "a lease to be extended once",
        "EXTEND_TIMEOUT for each request",
    ),
    Wait(
        "leasing/own_lease.py:OwnLease.release leasing/own_lease.py:OwnLease._confirm leasing/release.py:delete "
        "leasing/own_lease.py:OwnLease._is_of_another_client leasing/release.py:sweep "
        "leasing/leases.py:Leases.release_all signals.py:OrderlyStop.wait_released",
        "leases to be released",
        "CONTROLLER_GRACE, then RELEASE_TIMEOUT to see it ended; RELEASE_TIMEOUT after a signal; "
        "_CREATE_MAY_BE_PENDING for a request that was under way",
    ),
    Wait(
        "leasing/availability.py:Availability.ask leasing/choice.py:Choice.pick "
        "collection/auto_workers.py:_of_lab_controller",
        "the listing of exporters and leases",
        "LISTING_TIMEOUT for a choice, _TIMEOUT for `-n auto`, else 15 s for each page",
    ),
    Wait("running/run.py:Run._wait_for_people", "people with a lease", "the end of that lease, each _LOOK_INTERVAL"),
    # The exporter
    Wait(
        "device/exporter_connection.py:ExporterConnection._open device/driver_builder.py:DriverBuilder.read_drivers "
        "leasing/direct.py:_speaks_tls",
        "an exporter to tell its drivers",
        "CONNECT_TIMEOUT",
    ),
    Wait(
        "device/exporter_connection.py:ExporterConnection.probe "
        "device/exporter_connection.py:ExporterConnection.probe.ask "
        "device/exporter_connection.py:ExporterConnection.is_ready",
        "an exporter to answer when a call has failed",
        "CONFIRM_TIMEOUT",
    ),
    Wait(
        "device/blocking_calls.py:DriverPortal.__init__ device/blocking_calls.py:DriverPortal._call_in_loop "
        "device/blocking_calls.py:DriverPortal.wrap_async_context_manager "
        "device/blocking_calls.py:_BlockingStub.DriverCall "
        "device/exporter_connection.py:ExporterConnection._give_portal",
        "a driver call of a test",
        "--jmp-call-timeout, or the call's own end, or the loss of the device, which closes the connection",
    ),
    Wait(
        "device/blocking_calls.py:_until_ready",
        "a connection on which a call can be sent",
        "CONNECT_PATIENCE, each _READY_CHECK",
    ),
    Wait(
        "leasing/call_watch.py:CallWatch._run leasing/call_watch.py:CallWatch._ask device/blocking_calls.py:ping",
        "an exporter that a waiting call hears nothing from",
        "QUIET, then PING_TIMEOUT, each _LOOK_INTERVAL; a warning WARN_AFTER, the end after --jmp-ttl",
    ),
    Wait(
        "device/driver_builder.py:DriverBuilder._made device/portal.py:_settle",
        "the event loop",
        "it is never blocked: what runs there awaits",
    ),
    Wait(
        "device/tunnel.py:Tunnel._carry device/tunnel.py:Tunnel._until_connected device/tunnel.py:_is_away",
        "a router that restarts",
        "ROUTER_PATIENCE, each _REDIAL",
    ),
    Wait(
        "device/tunnel.py:_words device/tunnel.py:Tunnel._wait_closed device/tunnel.py:_hang_up",
        "the end of a stream",
        "_STATUS_TIMEOUT for its status, _HANG_UP_TIMEOUT for gRPC to notice; else it is cancelled",
    ),
    Wait(
        "device/tunnel.py:Tunnel._accept device/socket_end.py:SocketEnd.read",
        "bytes of a connection",
        "the end of the connection, which `Tunnel.close` closes",
    ),
    Wait(
        "device/console.py:Console.__init__ device/console.py:Console.discard device/shared_port.py:SharedPort.read",
        "output of a console",
        "`timeout` of `expect`: DEFAULT_TIMEOUT; DISCARD_TIMEOUT for what is dropped",
    ),
    Wait(
        "device/device.py:Device.record device/shared_port.py:SharedPort.record device/shared_port.py:SharedPort.open",
        "a console to be opened",
        "OPEN_TIMEOUT; _RECORD_TIMEOUT for its record",
    ),
    Wait(
        "device/exporter_log.py:ExporterLog.settle device/exporter_log.py:ExporterLog.last_words "
        "device/exporter_log.py:ExporterLog.stop device/exporter_log.py:ExporterLog._follow",
        "the last lines of an exporter's log",
        "LAST_WORDS_TIMEOUT; the log itself, in the background, each _REPEAT until it is stopped",
    ),
    # This machine
    Wait(
        "leasing/connect.py:Connector.connect running/run.py:Run.client running/run.py:Run._leave "
        "running/schedule.py:Schedule.wait_for_imports",
        "a thread that imports, or connects for the first time",
        "imports end; each of its requests has a timeout",
    ),
    Wait("running/schedule.py:_let_go_first", "another worker to take a board", "_LET_GO_FIRST"),
    Wait("evidence/artifacts.py:Artifacts._collect", "the hooks that collect evidence", "TIMEOUT"),
    Wait("ci.py:_commit", "git", "_GIT_TIMEOUT"),
    Wait(
        "workers/channel.py:WorkerEnd.tell workers/channel.py:WorkerEnd.lab workers/channel.py:WorkerEnd.wait "
        "workers/channel.py:WorkerEnd.wanted_by "
        "workers/channel.py:WorkerEnd._exchange running/hook_events.py:HookEvents.on_wait",
        "the controller process, in a worker",
        "_TIMEOUT; _LAB_TIMEOUT for the embedded lab to start",
    ),
    Wait(
        "workers/channel.py:ControllerEnd._accept workers/channel.py:ControllerEnd.close",
        "workers, in a daemon thread of the controller process",
        "until it is closed, which takes _CLOSE_TIMEOUT at most",
    ),
    Wait(
        "workers/controller.py:WorkersController.pytest_sessionfinish",
        "leases of lost workers to be released",
        "as `leasing/release.py:sweep`",
    ),
    Wait(
        "lab/lab.py:Lab._await_ready lab/lab.py:_end",
        "the process of the embedded lab",
        "the lab's own timeout and _STOP_TIMEOUT; then it is killed",
    ),
    Wait("lab/faults.py:order lab/faults.py:FaultyServer._listen", "a lab that fails on demand", "_ORDER_TIMEOUT"),
)

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
        "client/v1/client.py:Client._pages client/v1/controller_connection.py:ControllerConnection._send "
        "client/v1/controller_connection.py:ControllerConnection.wait_closed "
        "client/v1/lease_creation.py:LeaseCreation.settle client/v1/lease_creation.py:LeaseCreation._find "
        "client/v1/lease_creation.py:tagged",
        "one request, reads repeated",
        "the timeout of the request; 15 s where the caller names none",
    ),
    Wait(
        "client/v1/controller_connection.py:ControllerConnection._open "
        "client/v1/tls.py:Tls.credentials client/v1/tls.py:certificate_of",
        "the certificate of a server that is not verified",
        "5 s (a quarter of CONNECT_TIMEOUT without a lab), or the timeout of the request if that is less",
    ),
    Wait(
        "client/v1/oidc.py:refresh client/v1/config_file.py:_lock client/v1/renewal.py:_to_its_end",
        "a new token in place of an expired one",
        "_LOCK_TIMEOUT for other processes, each _LOCK_PAUSE; _PROVIDER_TIMEOUT for each of two requests",
    ),
    Wait(
        "leasing/waiting.py:Waiter.until_requested leasing/own_lease.py:OwnLease._create "
        "leasing/own_lease.py:OwnLease._lease_of_earlier_request",
        "a lease to be created",
        "--jmp-wait; CONTROLLER_GRACE where the lab controller has never answered; CALL_TIMEOUT for each request; "
        "then RELEASE_TIMEOUT to withdraw a request that was never answered",
    ),
    Wait(
        "leasing/waiting.py:Waiter.until_ready leasing/polling.py:polls leasing/waiting.py:attempts",
        "a lease to be Ready",
        "--jmp-wait; at least DECISION_TIMEOUT, or SHORTEST_PATIENCE to LONGEST_PATIENCE with another lease at hand; "
        "lines from _QUIET on, the late ones _SURVEY_EVERY",
    ),
    Wait(
        "leasing/acquire.py:Member._obtain_replacement leasing/replaced.py:replacement_for",
        "an exporter that replaces one of its set that is gone",
        "--jmp-wait; LISTING_TIMEOUT for each page of a listing",
    ),
    Wait(
        "leasing/waiting.py:Waiter.until_exporter_ready",
        "the exporter of a Ready lease, whose beforeLease hook may run",
        "HOOK_TIMEOUT, EXPORTER_START until it notices its lease; each _HOOK_PAUSE at most; CALL_TIMEOUT for each "
        "request",
    ),
    Wait(
        "leasing/exporter_hooks.py:leave_release_to_exporter",
        "an exporter that releases a lease itself, because its beforeLease hook has failed",
        "OWN_RELEASE_TIMEOUT",
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
        "the client config may name another time for the exporter, `leases.dial_timeout`; "
        "trouble by leasing/patience.py: SECOND_LOOK, UNKNOWN_PATIENCE",
    ),
    Wait(
        "leasing/keeper.py:Keeper._run leasing/lease.py:ManagedLease.look "
        "leasing/lease.py:ManagedLease._loss_of_exporter leasing/own_lease.py:OwnLease._extend",
        "the lab controller, of a lease that is held",
        "--jmp-ttl (DEFAULT_TTL, at least SHORTEST_TTL); every LOOK_INTERVAL, _LONGEST_REQUEST for each request",
    ),
    Wait(
        "leasing/without_lease.py:GivenExporter.await_ready device/exporter_status.py:get_status "
        "device/exporter_connection.py:ExporterConnection.status",
        "an exporter without a lab controller, whose beforeLease hook may run",
        "HOOK_TIMEOUT, each _STATUS_PAUSE at most; _STARTS where it has no status; CALL_TIMEOUT for each request",
    ),
    Wait("leasing/keeper.py:Keeper.stop", "the keeper's thread", "LOOK_INTERVAL; it is a daemon"),
    Wait(
        "leasing/lease.py:ManagedLease._left leasing/own_lease.py:OwnLease.reserve",
        "a lease to be extended once",
        "EXTEND_TIMEOUT for each request",
    ),
    Wait(
        "leasing/own_lease.py:OwnLease.release leasing/own_lease.py:OwnLease._confirm leasing/release.py:delete "
        "leasing/own_lease.py:OwnLease._is_of_another_client leasing/release.py:sweep leasing/release.py:_deleted "
        "leasing/leases.py:Leases.release_all signals.py:OrderlyStop.wait_released",
        "leases to be released",
        "CONTROLLER_GRACE, then RELEASE_TIMEOUT to see it ended; RELEASE_TIMEOUT after a signal; "
        "_CREATE_MAY_BE_PENDING for a request that was under way",
    ),
    Wait(
        "leasing/availability.py:Availability.ask leasing/availability.py:describe_candidates "
        "leasing/availability.py:look_for leasing/availability.py:hint_for leasing/choice.py:Choice.pick "
        "leasing/choice.py:Choice.forbid "
        "collection/auto_workers.py:_of_lab_controller running/run.py:Run._connect leasing/patience.py:patiently",
        "the listing of exporters and leases",
        "CHOICE_TIMEOUT for a choice, LISTING_TIMEOUT for a message, _TIMEOUT for `-n auto`, else 15 s for each page; "
        "tried again for CONTROLLER_GRACE before a run, at most for --jmp-wait",
    ),
    Wait("lab_access.py:_in_thread", "imports, while the embedded lab starts", "the end of the imports"),
    Wait("running/run.py:Run._wait_for_people", "people with a lease", "the end of that lease, each _LOOK_INTERVAL"),
    # The exporter
    Wait(
        "device/exporter_connection.py:ExporterConnection._open "
        "device/exporter_connection.py:ExporterConnection.read_drivers",
        "an exporter to tell its drivers",
        "CONNECT_TIMEOUT",
    ),
    Wait(
        "device/exporter_connection.py:ExporterConnection._ask "
        "device/exporter_connection.py:ExporterConnection._ask.ask "
        "device/exporter_connection.py:ExporterConnection.is_ready",
        "an exporter to answer when a call has failed",
        "CONFIRM_TIMEOUT",
    ),
    Wait(
        "device/blocking_calls.py:DriverPortal.__init__ device/blocking_calls.py:DriverPortal._call_in_loop "
        "device/blocking_calls.py:DriverPortal._opened_in_loop "
        "device/blocking_calls.py:_BlockingStub._call "
        "device/exporter_connection.py:ExporterConnection._give_portal",
        "a driver call of a test",
        "--jmp-call-timeout, or the call's own end, or the loss of the device, which closes the connection",
    ),
    Wait(
        "device/blocking_channel.py:until_ready",
        "a connection on which a call can be sent",
        "CONNECT_PATIENCE, each _READY_CHECK",
    ),
    Wait(
        "leasing/call_watch.py:CallWatch._run leasing/call_watch.py:CallWatch._ping device/blocking_channel.py:ping",
        "an exporter that a waiting call hears nothing from",
        "QUIET, then PING_TIMEOUT, each _LOOK_INTERVAL; an answer after LATE counts as none; a warning WARN_AFTER, "
        "the end after --jmp-ttl",
    ),
    Wait(
        "device/driver_builder.py:DriverBuilder._built_in_loop device/portal.py:_settle "
        "leasing/lease.py:ManagedLease.open_to_others",
        "the event loop",
        "it is never blocked: what runs there awaits",
    ),
    Wait(
        "device/tunnel.py:Tunnel._carry device/tunnel.py:Tunnel._until_connected device/tunnel.py:_is_away",
        "a router that restarts",
        "ROUTER_PATIENCE, each _REDIAL; none for a wrong address or certificate",
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
        "device/port_reader.py:PortReader._wait device/session.py:Session.__init__ device/session.py:Session._next "
        "device/session.py:Session.skip "
        "device/shared_port.py:SharedPort.read device/console.py:Console.__init__ running/start.py:_device_settings",
        "output of a console, or room for what is sent",
        "`timeout` of `expect`: --jmp-console-timeout, DEFAULT_TIMEOUT; the end of the stream",
    ),
    Wait(
        "device/session.py:Session.rest_of_line",
        "the rest of a line that ended an `expect`",
        "_REST_OF_LINE of the console",
    ),
    Wait(
        "device/line_follower.py:LineFollower.close",
        "the last lines of a console to be shown",
        "_CLOSE_TIMEOUT",
    ),
    Wait(
        "device/exchanges.py:read_answer device/exchanges.py:_wait_for_begin device/exchanges.py:_output_after "
        "device/prompt_console.py:PromptConsole.wait device/prompt_console.py:PromptConsole._match_now "
        "device/prompt_shells.py:PlainShell._output device/prompt_shells.py:ZephyrShell.__init__ "
        "device/prompt_shells.py:ZephyrShell._exchange device/shell.py:Shell.start device/shell.py:UBootShell.__init__ "
        "device/shell.py:UBootShell._exchange device/shell_files.py:get device/started.py:Started.expect "
        "device/started.py:Started._read device/ssh_shell.py:SshShell._run",
        "a command on a board",
        "`timeout` of the shell or of `run`: DEFAULT_TIMEOUT, looked at after _FIRST_LOOK, then each _LOOK; "
        "_SILENCE at a prompt, _BEGIN_TIMEOUT to begin, "
        "_RETVAL_TIMEOUT for Zephyr's exit code, STOP_TIMEOUT after Ctrl-C, REBOOT_TIMEOUT for what looks like a boot; "
        "_SECONDS_PER_BYTE more for a file",
    ),
    Wait(
        "device/command.py:CommandRunner.wait_until",
        "a command to succeed",
        "its `timeout`, each POLL_INTERVAL; _SHORTEST_TRY for the last try",
    ),
    Wait(
        "device/prompt_console.py:PromptConsole.send device/prompt_console.py:PromptConsole.type "
        "device/prompt_console.py:PromptConsole.settle device/prompt_shells.py:PlainShell._answers "
        "device/shell.py:ConsoleShell._answers device/shell_login.py:Login._is_silent",
        "a prompt, or the echo of what is typed",
        "`timeout` of `login`, Enter after SILENCE and again after _SYNC_TIMEOUT; _SETTLE_TIMEOUT after a command, "
        "_RECOVER_TIMEOUT after Ctrl-C; _ECHO_TIMEOUT and _SECONDS_PER_CHARACTER for an echo; `send_delay`",
    ),
    Wait(
        "device/connected_device.py:ConnectedDevice.record device/shared_port.py:SharedPort.record "
        "device/shared_port.py:SharedPort.open",
        "a console to be opened",
        "OPEN_TIMEOUT; _RECORD_TIMEOUT for its record",
    ),
    Wait(
        "device/shared_port.py:SharedPort.park device/shared_port.py:SharedPort._try_to_open "
        "device/console.py:Console.release device/console.py:Console.close "
        "device/console.py:Console._in_loop device/serial_ports.py:SerialPorts._lent",
        "a serial port to be closed for others, or opened again",
        "_CLOSE_TIMEOUT for the stream, and again for the exporter to close the port; OPEN_TIMEOUT, or _RECORD_TIMEOUT "
        "after a loan",
    ),
    Wait(
        "device/shared_port.py:SharedPort._reopen",
        "a serial port that the exporter closed to be free again, in the background",
        "REOPEN_AFTER the last driver call, then _REOPEN_EVERY, until the device is released",
    ),
    Wait(
        "report/progress.py:Progress._show",
        "a transfer, in a daemon thread that shows it; then that thread",
        "the end of the transfer, shown SHOWN_AFTER, each DRAW_EVERY or LINE_EVERY, at the end if it took TOLD_AFTER; "
        "_SETTLE_TIMEOUT for the thread",
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
        "running/schedule.py:Schedule.wait_for_imports running/forks.py:no_fork_during.before",
        "a thread that imports, or connects for the first time",
        "imports end; each of its requests has a timeout",
    ),
    Wait("running/schedule.py:_wait_for_other_worker", "another worker to acquire a board", "_OTHER_WORKER_TIMEOUT"),
    Wait("evidence/artifacts.py:Artifacts._collect", "the hooks that collect evidence", "TIMEOUT"),
    Wait("leasing/origin.py:_commit", "git", "_GIT_TIMEOUT"),
    Wait(
        "workers/channel.py:WorkerEnd.tell workers/channel.py:WorkerEnd.lab workers/channel.py:WorkerEnd.wait "
        "workers/channel.py:WorkerEnd.wanted_by workers/channel.py:WorkerEnd.token "
        "workers/channel.py:WorkerEnd.refused_exporters "
        "workers/channel.py:WorkerEnd._exchange running/hook_events.py:HookEvents.on_wait",
        "the controller process, in a worker",
        "_TIMEOUT; _LAB_TIMEOUT for the embedded lab to start, _TOKEN_TIMEOUT for a new token",
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
    # The history of runs
    Wait(
        "history/file.py:HistoryFile._connect",
        "another process that writes to the same history file",
        "BUSY_TIMEOUT",
    ),
)

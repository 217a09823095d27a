"""The lab process: starts all parts in order, and stops them in reverse order."""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_jumpstarter.errors import LabError
from pytest_jumpstarter.lab.configdir import ConfigDir
from pytest_jumpstarter.lab.documents import Document, is_object_name, read_documents
from pytest_jumpstarter.lab.supervisor import ExporterProcess
from pytest_jumpstarter.lab.temporary import TEMPORARY_PREFIX, default_config_dir, remove_temporary

if TYPE_CHECKING:
    from pytest_jumpstarter.lab.model import Exporter, Model
    from pytest_jumpstarter.lab.server import Server

DEFAULT_CLIENT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of the lab process; durations are in seconds."""

    paths: Sequence[str]
    config_dir: Path | None
    temporary: Path | None
    clients: Sequence[str]
    assign_delay: float
    offline_after: float
    token_lifetime: float
    start_timeout: float
    faults: Path | None = None
    snapshot: str | None = None


async def serve(options: Options, *, on_ready: Callable[[str], None], is_over: asyncio.Event) -> None:
    """
    Run a lab until `is_over`, then stop it and remove its files.

    `on_ready` is called with the endpoint when all exporters that the lab runs itself can be leased.

    Raises:
        LabError: The lab cannot start.
    """
    documents = read_documents(options.paths)
    for document in documents:
        for notice in document.notices:
            print(notice, flush=True)
    clients = _client_names(options.clients)
    async with AsyncExitStack() as stack:
        temporary = options.temporary or Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
        stack.callback(remove_temporary, temporary)
        processes = await _spawn(documents, temporary, stack)
        server = _server(documents, clients, options)
        await server.start()
        stack.push_async_callback(server.stop)
        configs = ConfigDir(options.config_dir or default_config_dir(temporary))
        stack.callback(configs.remove)
        exporter_configs = _write_configs(configs, documents, server)
        for process in processes:
            process.give(exporter_configs[process.name])
        # Exporters stop before the server, so that they can unregister.
        stack.push_async_callback(_stop_all, processes)
        if await _become_ready(processes, server.model, options.start_timeout, is_over):
            if options.config_dir is None:
                print(f"client config: JMP_CLIENT_CONFIG_HOME={configs.path}", flush=True)
            print(f"lab ready: {server.endpoint}, {len(processes)} exporters", flush=True)
            on_ready(server.endpoint)
            await is_over.wait()


def _client_names(names: Sequence[str]) -> list[str]:
    for name in names:
        if not is_object_name(name):
            raise LabError(f"--client {name!r}: a client's name is lower-case letters, digits, '-' and '.'")
    return list(dict.fromkeys((DEFAULT_CLIENT, *names)))


async def _spawn(documents: Sequence[Document], temporary: Path, stack: AsyncExitStack) -> list[ExporterProcess]:
    """Start the exporter processes; they import their drivers while the lab makes its keys and opens its port."""
    own = [document for document in documents if not document.is_external]
    processes = [ExporterProcess(document, temporary=temporary, say=_say) for document in own]
    stack.push_async_callback(_stop_all, processes)
    await asyncio.gather(*(process.spawn() for process in processes))
    return processes


async def _stop_all(processes: Sequence[ExporterProcess]) -> None:
    await asyncio.gather(*(process.stop() for process in processes))


def _server(documents: Sequence[Document], clients: Sequence[str], options: Options) -> Server:
    # These imports take as long as those of an exporter, which run at the same time.
    from pytest_jumpstarter.host.grpc_threads import read_where_waiting

    try:
        with read_where_waiting():
            import grpc.aio  # noqa: F401
        from pytest_jumpstarter.lab.authority import Authority
    except ModuleNotFoundError as error:
        raise LabError(
            f"the embedded lab needs {error.name}, which is not installed; pip install 'pytest-jumpstarter[lab]'"
        ) from error
    _check_stubs()
    from pytest_jumpstarter.lab.model import Client, Exporter, Model
    from pytest_jumpstarter.lab.server import Server

    namespace = documents[0].namespace
    exporters = [Exporter(namespace, it.name, it.labels, is_enabled=it.is_enabled) for it in documents]
    model = Model(namespace, exporters, [Client(namespace=namespace, name=name) for name in clients])
    if options.faults is not None:
        from pytest_jumpstarter.lab.faults import FaultyServer

        snapshot = importlib.import_module(options.snapshot) if options.snapshot is not None else None
        return FaultyServer(model, options.faults, offline_after=options.offline_after, snapshot=snapshot)
    authority = Authority(client_token_lifetime=options.token_lifetime)
    return Server(model, authority, assign_delay=options.assign_delay, offline_after=options.offline_after)


def _check_stubs() -> None:
    """Refuse stubs before 0.9, as of jumpstarter 0.8: they lack a part of what the lab serves."""
    from jumpstarter_protocol import client_pb2

    if "tags" not in client_pb2.DESCRIPTOR.message_types_by_name["Lease"].fields_by_name:
        raise LabError(
            "the embedded lab needs jumpstarter-protocol 0.9 or later, and the one installed is older; pip install "
            "--upgrade jumpstarter, or run the lab from a venv of its own: python -m pytest_jumpstarter.lab"
        )


def _write_configs(configs: ConfigDir, documents: Sequence[Document], server: Server) -> dict[str, Path]:
    """Write all configs; return those of the exporters."""
    model, authority, endpoint = server.model, server.authority, server.endpoint
    for client in model.clients.values():
        token, _ = authority.issue(client.subject)
        configs.write_client(client.name, namespace=client.namespace, endpoint=endpoint, ca=authority.ca, token=token)
    configs.write_user(current_client=DEFAULT_CLIENT)
    written = {}
    for document in documents:
        token, _ = authority.issue(model.exporters[document.name].subject)
        written[document.name] = configs.write_exporter(
            document.config, endpoint=endpoint, ca=authority.ca, token=token
        )
    return written


async def _become_ready(
    processes: Sequence[ExporterProcess], model: Model, timeout: float, is_over: asyncio.Event
) -> bool:
    """Wait until every exporter can be leased; return False if the lab was stopped before."""
    failures = [asyncio.create_task(process.fail()) for process in processes]
    exporters = [model.exporters[process.name] for process in processes]
    ready = asyncio.gather(*map(_available, exporters))
    stopped = asyncio.create_task(is_over.wait())
    waited: list[asyncio.Future[Any]] = [ready, stopped, *failures]
    try:
        await asyncio.wait(waited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for failure in failures:
            if failure.done():
                failure.result()
        if not ready.done() and not stopped.done():
            pairs = zip(processes, exporters, strict=True)
            late = ", ".join(_describe(process, exporter) for process, exporter in pairs if not _is_available(exporter))
            raise LabError(f"after {timeout:g} s these exporters are not available: {late}")
        is_ready = ready.done()
    finally:
        for task in waited:
            task.cancel()
        await asyncio.gather(*waited, return_exceptions=True)
    if is_ready:
        for process in processes:
            process.keep()
    return is_ready


def _describe(process: ExporterProcess, exporter: Exporter) -> str:
    """Return the name of an exporter that is not available, with how far it came."""
    if exporter.devices is None:
        state = "it has not registered"
    elif not exporter.feeds:
        state = "it has registered, and does not ask for its leases"
    else:
        state = f"its status is {exporter.status.name}"
    return f"{process.name} ({state}{f'; last output: {process.last_line}' if process.last_line else ''})"


def _is_available(exporter: Exporter) -> bool:
    return exporter.devices is not None and exporter.is_assignable and bool(exporter.feeds)


async def _available(exporter: Exporter) -> None:
    while not _is_available(exporter):
        await exporter.changed.wait()


def _say(line: str) -> None:
    print(line, flush=True)


def install_stop(is_over: asyncio.Event, lifeline: int | None) -> None:
    """Set `is_over` on SIGINT, SIGTERM or SIGHUP, or when the other end of `lifeline` (a descriptor) is closed."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, is_over.set)
    if lifeline is not None:
        loop.add_reader(lifeline, is_over.set)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a TextIOWrapper

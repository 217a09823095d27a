"""Which threads of gRPC read from sockets."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

SCRIPT = """
    import asyncio, os, sys
    from pathlib import Path
    from importlib import metadata
    from pytest_jumpstarter.host import grpc_threads

    grpc_threads.version = lambda _: sys.argv[1] or metadata.version("grpcio")
    with grpc_threads.read_where_waiting():
        import grpc.aio

    class Echo(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(self.answer)
        async def answer(self, request, context):
            return request

    def switches():
        found = 0
        for task in Path("/proc/self/task").iterdir():
            if "event_engine" in (task / "comm").read_text():
                status = (task / "status").read_text()
                found += int(status.partition("voluntary_ctxt_switches:")[2].split()[0])
        return found

    async def main():
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Echo(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/a/b")
            await call(b"")
            before = switches()
            for _ in range(200):
                await call(b"")
        print(switches() - before > 200, os.environ.get("GRPC_EXPERIMENTS"))

    asyncio.run(main())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("release", "given", "expected"),
    [
        ("", None, "False None"),  # the pool is idle, and programs that the process starts do not inherit the variable
        ("", "-event_engine_listener", "True -event_engine_listener"),
        ("1.999.0", None, "True None"),
        ("2.0.0", None, "True None"),
    ],
    ids=["ours", "the user's", "newer", "new major"],
)
def test_pool(release: str, given: str | None, expected: str) -> None:
    """The pool of threads is idle, unless the user has chosen, or a newer gRPC may know nothing else."""
    environ = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    environ |= {} if given is None else {"GRPC_EXPERIMENTS": given}
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), release]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == expected
    assert "nknown experiment" not in done.stderr

"""A network of a test's own: a process that passes TCP connections on, and can be killed, started again, or frozen."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Self


class Forwarder:
    """
    Passes connections on to an endpoint: the way to a lab controller, or in front of a router, which then is its own.

    Attributes:
        endpoint: `HOST:PORT` where it listens, the same after a kill and a new start.
        pid: Its process, to be frozen.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self.endpoint = "127.0.0.1:0"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The process id, while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Begin to listen; it ends with whoever started it."""
        command = [sys.executable, "-S", __file__, self._target, self.endpoint]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.endpoint = self._process.stdout.readline().strip()
        assert self.endpoint, "it does not start"

    def kill(self) -> None:
        """End it as a crash does: connections are reset, and new ones refused."""
        process, self._process = self._process, None
        if process is not None:
            with process:
                process.kill()


async def _serve(target: str, endpoint: str) -> None:
    host, _, port = endpoint.rpartition(":")
    there, _, to = target.rpartition(":")

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await asyncio.open_connection(there, int(to))
        except OSError:
            writer.close()
            return
        await asyncio.wait(
            [asyncio.ensure_future(_copy(reader, forth)), asyncio.ensure_future(_copy(back, writer))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        writer.close()
        forth.close()

    server = await asyncio.start_server(pass_on, host, int(port))
    print("{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until whoever started it is gone
    os.kill(os.getpid(), signal.SIGKILL)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        return


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))

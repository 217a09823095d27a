"""`SshShell`: runs commands on a board over SSH, with Jumpstarter's SSH driver and the `ssh` of this machine."""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_jumpstarter.device.call_window import mark_call
from pytest_jumpstarter.device.command import CommandRunner, CommandTimeout, Result, checked
from pytest_jumpstarter.device.drivers import AnyClient
from pytest_jumpstarter.device.quoted import tail
from pytest_jumpstarter.device.session import DEFAULT_TIMEOUT
from pytest_jumpstarter.host import real_time

_FAILED = 255
"""What ssh exits with if there is no connection; a command may do so too."""


class SshShell(CommandRunner):
    """
    A shell over SSH, through the tunnel to the exporter; each command has a session of its own.

    So what a command changes in its shell, such as the folder, is gone after it. `stdout` and `stderr` are apart, and
    there are no lines of the kernel. A command that takes too long loses its connection; it may go on on the board.

    Args:
        driver: The client of Jumpstarter's SSH driver (`jumpstarter-driver-ssh`), such as `dut.ssh`.
        timeout: Seconds that a command may take.
        name: The name of the shell in messages.
    """

    def __init__(self, driver: AnyClient, *, timeout: float = DEFAULT_TIMEOUT, name: str = "ssh") -> None:
        super().__init__(name, timeout)
        self._driver = driver

    def run(self, command: str, *, check: bool = True, timeout: float | None = None) -> Result:
        """
        Run a command and return its result.

        Args:
            command: The command, for the login shell of the user, a POSIX one; its input is empty.
            check: Raise `CommandFailed` if it exits with another code than 0.
            timeout: Seconds; None for the shell's own.

        Raises:
            CommandFailed: It exited with another code than 0.
            CommandTimeout: It did not end in time.
            ConnectionError: There was no connection, or it broke.
        """
        __tracebackhide__ = True  # pytest shows the line of the test
        began = real_time.monotonic()
        done = self._run(command, b"", timeout)
        text = [stream.decode(errors="replace").rstrip("\n") for stream in (done.stdout, done.stderr)]
        result = Result(
            command=command,
            exited=done.returncode,
            stdout=text[0],
            stderr=text[1],
            duration=real_time.monotonic() - began,
        )
        return checked(result, self.name) if check else result

    def put(self, content: bytes | str, path: str, *, mode: int | None = None, timeout: float | None = None) -> None:
        """
        Write a file on the board.

        Args:
            content: Of any size; text is UTF-8.
            path: Where.
            mode: Its permissions, such as `0o755`; None for those that new files have.
            timeout: Seconds; None for the shell's own.

        Raises:
            CommandFailed: The board cannot write it.
        """
        __tracebackhide__ = True
        target = shlex.quote(path)
        command = f"cat >{target}" + (f" && chmod {mode:o} {target}" if mode is not None else "")
        self._file(command, content if isinstance(content, bytes) else content.encode(), timeout)

    def get(self, path: str, *, timeout: float | None = None) -> bytes:
        """
        Return the content of a file on the board, of any size.

        Args:
            path: Where it is.
            timeout: Seconds; None for the shell's own.

        Raises:
            CommandFailed: The board cannot read it.
        """
        __tracebackhide__ = True
        return self._file(f"cat <{shlex.quote(path)}", b"", timeout)

    def _file(self, command: str, data: bytes, timeout: float | None) -> bytes:
        __tracebackhide__ = True
        done = self._run(command, data, timeout)
        stderr = done.stderr.decode(errors="replace").rstrip("\n")
        checked(Result(command=command, exited=done.returncode, stdout="", stderr=stderr), self.name)
        return done.stdout

    def _run(self, command: str, data: bytes, timeout: float | None) -> subprocess.CompletedProcess[bytes]:
        """Run a command in a session of its own, with `data` as its input."""
        __tracebackhide__ = True
        timeout = self.timeout if timeout is None else timeout
        began = real_time.monotonic()
        mark = secrets.token_hex(8)
        remote = f"(eval {shlex.quote(command)}); r=$?; [ $r -ne {_FAILED} ] || echo {mark} >&2; exit $r"
        try:
            with self._arguments() as arguments:
                done = subprocess.run(
                    [*arguments, remote], input=data, capture_output=True, timeout=timeout, check=False
                )
        except subprocess.TimeoutExpired as exc:
            said = b"".join(stream or b"" for stream in (exc.stdout, exc.stderr)).decode(errors="replace")
            error = CommandTimeout(f"{self.name}: {command!r} did not end within {timeout:g}s; it said:\n{tail(said)}")
            mark_call(error, began)
            raise error from None
        if done.returncode == _FAILED:
            stderr, is_of_command, _ = done.stderr.partition(f"{mark}\n".encode())
            if not is_of_command:
                lost = ConnectionError(
                    f"{self.name}: no connection for {command!r}, or it broke:\n{tail(stderr.decode(errors='replace'))}"
                )
                mark_call(lost, began)
                raise lost
            done.stderr = stderr
        return done

    @contextmanager
    def _arguments(self) -> Iterator[list[str]]:
        """Open a port to the board, and yield the command line of ssh up to the host."""
        from jumpstarter_driver_network.adapters import TcpPortforwardAdapter

        command = [*shlex.split(self._driver.command), "-o", "BatchMode=yes", "-T"]
        user, identity = self._driver.username, self._driver.identity
        forward = TcpPortforwardAdapter(client=self._driver.tcp)
        host, port = forward.__enter__()
        try:
            with _key_file(identity) as key:
                yield [*command, *(["-i", key] if key else []), *(["-l", user] if user else []), "-p", str(port), host]
        finally:
            forward.__exit__(None, None, None)  # an error that went through it would end in a group, even Ctrl-C


@contextmanager
def _key_file(identity: str | None) -> Iterator[str | None]:
    """Write a private key to a file that only this user can read, and yield its path; None if there is no key."""
    if not identity:
        yield None
        return
    file, path = tempfile.mkstemp(prefix="jumpstarter-ssh-")
    try:
        os.write(file, identity.encode())
        os.close(file)
        yield path
    finally:
        os.unlink(path)

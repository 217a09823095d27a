"""A process that runs out of file descriptors or threads: clear errors, never an internal one, and nothing held."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import running, until

from pytest_jumpstarter.client.v1 import Lease

TESTS = """
    import pytest

    def test_needs_nothing():
        pass

    @pytest.mark.parametrize("turn", range(2))
    def test_boots(dut, console, turn):
        dut.power.cycle(wait=0)
        console.expect("login: ", timeout=20)
"""
# Closes what it opened but a few, as a test that leaks does: what pytest itself needs is still there.
LEAK = """
    import os

    kept = []

    def test_leaks(dut):
        try:
            while True:
                kept.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        for descriptor in kept[:%d]:
            os.close(descriptor)
        dut.power.on()
        assert False, "after the leak"

    def test_after(dut):
        dut.power.on()
"""
NO_THREADS = """
    import threading

    real = threading.Thread.start

    def start(self):
        if %s:
            raise RuntimeError("can't start new thread")
        real(self)

    def pytest_collection_modifyitems():
        threading.Thread.start = start  # from here on: other plugins start threads before
"""


def outcome(suite: pytest.Pytester, descriptors: int) -> tuple[int, str]:
    """Run the suite with so many file descriptors; return exit code and output."""
    wrapper = ["sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh"]
    with running(suite, "--jmp-ttl=6s", wrapper=wrapper) as process:
        output, _ = process.communicate(timeout=100)
    return process.returncode, output


@pytest.mark.parametrize("descriptors", [16, 24, *range(32, 41, 2)])
def test_few_descriptors(suite: pytest.Pytester, active_leases: Callable[[], list[Lease]], descriptors: int) -> None:
    """With too few file descriptors for a device there is a configuration error, before anything is leased."""
    suite.makepyfile(TESTS)
    code, output = outcome(suite, descriptors)
    assert "INTERNALERROR" not in output
    if code:
        assert code == 1, output
        assert "file descriptors, and a device needs 24: raise `ulimit -n`" in output
    else:
        assert "3 passed" in output
    assert active_leases() == []


@pytest.mark.parametrize("free", range(4))
def test_descriptors_that_a_test_leaks(
    suite: pytest.Pytester, active_leases: Callable[[], list[Lease]], free: int
) -> None:
    """A test that leaks every file descriptor breaks no hook: tests end with their verdicts, the lease goes back."""
    suite.makepyfile(LEAK % free)
    code, output = outcome(suite, 60)
    assert "INTERNALERROR" not in output
    assert code in (1, 8), output
    until(lambda: active_leases() == [], timeout=20)


@pytest.mark.parametrize("name", ["keeper", "warm-up", "portal", "dial", "imports", "connect"])
def test_no_thread_for(suite: pytest.Pytester, active_leases: Callable[[], list[Lease]], name: str) -> None:
    """Where one of our threads cannot be started, tests do without it, or there is an error that says so."""
    suite.makepyfile(TESTS)
    suite.makeconftest(NO_THREADS % f"self.name == 'jumpstarter-{name}'")
    with running(suite, "--jmp-ttl=6s") as process:
        output, _ = process.communicate(timeout=100)
    assert "INTERNALERROR" not in output
    assert "cannot join thread" not in output
    assert "3 passed" in output or "this process may start no more threads" in output
    assert active_leases() == []


@pytest.mark.parametrize("threads", [2, 4, 6, 8, 10, 12])
def test_few_threads(suite: pytest.Pytester, active_leases: Callable[[], list[Lease]], threads: int) -> None:
    """With too few threads for a device there is a configuration error, before anything is leased."""
    suite.makepyfile(TESTS)
    suite.makeconftest(NO_THREADS % f"threading.active_count() >= {threads}")
    with running(suite, "--jmp-ttl=6s") as process:
        output, _ = process.communicate(timeout=100)
    assert "INTERNALERROR" not in output
    assert "cannot join thread" not in output
    assert "this process may start no more threads" in output or "3 passed" in output
    assert active_leases() == []


def test_folders_of_a_lost_worker(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker that was killed has left in the folder for temporary files is removed by the end of the run."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:  # short, for sockets
        monkeypatch.setenv("TMPDIR", folder)
        suite.makepyfile(
            """
            import os, signal, tempfile
            from pathlib import Path

            def test_killed(dut):
                assert list(Path(tempfile.gettempdir()).glob(f"pj-{os.getpid()}-*")) != []
                os.kill(os.getpid(), signal.SIGKILL)
            """
        )
        result = suite.runpytest_subprocess("-n1", "--max-worker-restart=0")
        result.stdout.fnmatch_lines(["*worker 'gw0' crashed while running*test_killed*"])
        assert [path.name for path in Path(folder).iterdir() if path.name.startswith("pj-")] == []

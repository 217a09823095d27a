"""Children that a suite forks beside a board in use: they live, the board's calls go on, and no lease is touched."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest
from runs import running

from pytest_jumpstarter.client.v1 import Lease
from pytest_jumpstarter.host.grpc_import import FORK_SUPPORT, before_grpc, has_fork_handlers

TIMES = int(os.environ.get("PYTEST_FORKS", "20"))

FORKS = """
    import collections, multiprocessing, os, subprocess, threading, time
    import pexpect, pytest

    @pytest.fixture
    def calls(dut):
        ended, made = threading.Event(), []
        def call():
            while not ended.is_set():
                dut.power.on()
                made.append(1)
        thread = threading.Thread(target=call)
        thread.start()
        yield made
        ended.set()
        thread.join()

    def spawn():
        child = pexpect.spawn("echo hi", timeout=10)
        child.expect("hi")
        child.expect(pexpect.EOF)
        child.close()
        return child.signalstatus or child.exitstatus

    def preexec_fn():
        return subprocess.run(["true"], preexec_fn=lambda: None, timeout=10).returncode

    def process():
        child = multiprocessing.get_context("fork").Process(target=int)
        child.start()
        child.join(10)
        return child.exitcode

    def fork():
        if (child := os.fork()) == 0:
            os._exit(0)
        return os.waitpid(child, 0)[1]

    @pytest.mark.parametrize("make", [spawn, preexec_fn, process, fork])
    def test_fork(calls, dut, jumpstarter, make):
        ended = collections.Counter()
        for _ in range(TIMES):
            try: ended[make()] += 1
            except Exception as exc: ended[type(exc)] += 1
        assert ended == {0: TIMES}
        seen = len(calls)
        dut.power.on()
        while len(calls) < seen + 2: time.sleep(0.01)
        assert jumpstarter.client.get_lease(dut.lease.name).is_ready
"""


USE = "import grpc\ngrpc.insecure_channel('127.0.0.1:9').close()\n"


@pytest.mark.parametrize(
    ("conftest", "early"),
    [("", ""), (USE, ""), ("", "import grpc")],
    ids=["alone", "gRPC used by a conftest", "gRPC imported before"],
)
def test_forks(suite: pytest.Pytester, active_leases: Callable[[], list[Lease]], conftest: str, early: str) -> None:
    """Of many children of each kind, beside a board that is called without a pause, none dies."""
    suite.makeconftest(conftest)
    suite.makepyfile(early=early, test_forks=FORKS.replace("TIMES", str(TIMES)))
    suite.syspathinsert()
    with running(suite, *(("-p", "early") if early else ())) as process:
        output = process.communicate(timeout=60 + TIMES)[0]
    assert "4 passed" in output, output
    assert "this process forks" not in output
    assert active_leases() == []


@pytest.mark.parametrize(("value", "expected"), [("0", False), ("false", False), ("1", True), ("true", True)])
def test_value_of_the_user(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    """Where the user has set gRPC's variable, that counts."""
    monkeypatch.setenv(FORK_SUPPORT, value)
    before_grpc()
    assert has_fork_handlers() is expected
    assert os.environ[FORK_SUPPORT] == value


def test_warning(suite: pytest.Pytester) -> None:
    """Where a plugin that came before ours used gRPC, the first fork says what may happen."""
    suite.makepyfile(early=USE)
    suite.syspathinsert()
    suite.makepyfile(
        test_it="""
        import subprocess
        def test_it(dut):
            for _ in range(2):
                subprocess.Popen(["sleep", "0"], preexec_fn=lambda: None).kill()
        """
    )
    with running(suite, "-p", "early") as process:
        output = process.communicate(timeout=60)[0]
    assert "1 passed" in output, output
    assert output.count("this process forks") == 1, output
    assert "another plugin used it before" in output


THREADS = """
    import os, threading
    def test_it(dut):
        dut.power.on()
        assert len(os.listdir("/proc/self/task")) > threading.active_count()
        if (child := os.fork()) == 0:
            os._exit(len(os.listdir("/proc/self/task")))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        assert "GRPC_ENABLE_FORK_SUPPORT" not in os.environ
"""
SECURE = "grpc.ssl_channel_credentials()"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "early", ["", "import grpc", f"import grpc.aio\n{SECURE}"], ids=["alone", "imported", "prepared"]
)
def test_threads_of_a_child(suite: pytest.Pytester, early: str) -> None:
    """A forked child has no threads: gRPC, whoever imported it, does not start its own again."""
    suite.makepyfile(early=early, test_it=THREADS)
    suite.syspathinsert()
    with running(suite, "-p", "early") as process:
        output = process.communicate(timeout=60)[0]
    assert "1 passed" in output, output


GRPC_PRIVATE = """
    import sys
    import grpc
    from pytest_jumpstarter.host import grpc_private
    from grpc._cython import cygrpc

    assert not any(name in sys.modules for name in grpc_private.MODULES_OF_USE)
    assert cygrpc._fork_state.fork_handler_registered is False
    assert isinstance(cygrpc._GRPC_ENABLE_FORK_SUPPORT, bool)
    assert grpc_private.read_variables_again()
    assert not cygrpc.is_fork_support_enabled()
    reset = cygrpc.reset_grpc_config_vars
    del cygrpc.reset_grpc_config_vars
    assert not grpc_private.read_variables_again()
    cygrpc.reset_grpc_config_vars = reset
    {use}
    assert not grpc_private.read_variables_again()
"""


@pytest.mark.parametrize(
    "use",
    [
        "grpc.insecure_channel('127.0.0.1:9').close()",
        "from concurrent.futures import ThreadPoolExecutor; grpc.server(ThreadPoolExecutor(1))",
        "grpc_private.import_channels()",
        "cygrpc._fork_state.fork_handler_registered = True",
    ],
    ids=["channel", "server", "modules", "handlers"],
)
def test_private_names_of_grpc(use: str) -> None:
    """The installed gRPC has each private name that is used, and what says that it has been used."""
    script = textwrap.dedent(GRPC_PRIVATE).format(use=use)
    environ = {name: value for name, value in os.environ.items() if name != FORK_SUPPORT}
    subprocess.run([sys.executable, "-c", script], env=environ, check=True, timeout=60)


def test_environment(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that tests start do not inherit what we tell our gRPC; a value of the user's stays."""
    suite.makepyfile(
        """
        import os
        def test_it(dut):
            found = {name: value for name, value in os.environ.items() if "FORK_SUPPORT" in name}
            assert found.get("GRPC_ENABLE_FORK_SUPPORT") == os.environ.get("EXPECTED")
            assert len(found) <= 1
        """
    )
    for value, workers in ((None, ()), (None, ("-n1",)), ("1", ())):
        for name in ("GRPC_ENABLE_FORK_SUPPORT", "EXPECTED") if value else ():
            monkeypatch.setenv(name, value or "")
        with running(suite, *workers) as process:
            output = process.communicate(timeout=60)[0]
        assert "1 passed" in output, output


def test_device_in_a_child(suite: pytest.Pytester, active_leases: Callable[[], list[Lease]]) -> None:
    """A forked child that calls a driver gets an error at once, which says where the device can be used."""
    suite.makepyfile(
        """
        import os
        def test_it(dut):
            power = dut.power
            power.on()
            if (child := os.fork()) == 0:
                code = 1
                for call in (power.on, lambda: dut.power, dut.console):
                    try: call()
                    except Exception as exc: code = 0 if "forked child" in str(exc) else 2
                os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
            power.off()
        """
    )
    with running(suite) as process:
        output = process.communicate(timeout=60)[0]
    assert "1 passed" in output, output
    assert active_leases() == []


def test_fork_before_the_first_device(suite: pytest.Pytester) -> None:
    """A test without device may fork: its child can import what this plugin imports in the background meanwhile."""
    suite.makepyfile(
        """
        import importlib, os, time
        def test_none():
            if (child := os.fork()) == 0:
                for name in ("grpc", "anyio", "jumpstarter.client", "pytest_jumpstarter.running.start"):
                    importlib.import_module(name)
                os._exit(0)
            deadline = time.monotonic() + 40
            while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
                time.sleep(0.01)
            if ended == (0, 0): os.kill(child, 9)
            assert ended == (child, 0)
        def test_it(dut): dut.power.on()
        """
    )
    with running(suite) as process:
        output = process.communicate(timeout=120)[0]
    assert "2 passed" in output, output

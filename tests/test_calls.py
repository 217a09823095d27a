"""Plain driver calls: what a caller gets, and what ends one that takes long."""

from __future__ import annotations

import asyncio
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from anyio.from_thread import start_blocking_portal
from drivers_for_faults import Counting
from faulty import FaultyLab
from jumpstarter_protocol import jumpstarter_pb2, jumpstarter_pb2_grpc
from runs import running, until, wait_for
from standalone import served, serving_drivers

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.device import blocking_calls
from pytest_jumpstarter.device.blocking_calls import DriverPortal
from pytest_jumpstarter.device.call_window import was_never_sent
from pytest_jumpstarter.device.socket_end import new_folder

SUITE = """
    def test_it(dut):
        print("HOLDING", flush=True)
        dut.counter.call("count", "long", 20)
    def test_later(dut):
        dut.counter.call("count", "later", 0)
"""


def test_same_as_in_the_loop(suite: pytest.Pytester) -> None:
    """A call in the test's own thread returns and raises what it does in the loop, and so does one in any thread."""
    suite.makepyfile(
        """
        import concurrent.futures, pytest
        from jumpstarter.client.core import DriverError

        def outcome(call, *args):
            try:
                return call(*args)
            except DriverError as exc:
                return type(exc), str(exc), repr(exc.__cause__ and exc.__cause__.code())

        def test_it(dut):
            assert dut.power.portal is not dut._connected._portal
            def in_loop(driver, *args):
                return dut._connected._portal.call(driver.call_async, *args)
            for driver, *args in [
                (dut.power, "on"),
                (dut.power, "read_back", 1, "two"),
                (dut.power, "on", "too", "many"),
                (dut.storage, "read", 17),
            ]:
                here, there = outcome(driver.call, *args), outcome(in_loop, driver, *args)
                assert here == there
                print("OUTCOME", here)
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                assert list(pool.map(lambda _: dut.power.on(), range(40))) == [None] * 40

        def test_in_the_loop_nothing_may_wait(dut):
            async def call():
                dut.power.on()
            with pytest.raises(RuntimeError, match="cannot be called from the event loop thread"):
                dut._connected._portal.call(call)
        """
    )
    result = suite.runpytest_subprocess("-s", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*OUTCOME None", "*OUTCOME (<class '*DriverMethodNotImplemented'>*", "*OUTCOME (*"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str)
def test_signal_during_a_call(boards: FaultyLab, pytester: pytest.Pytester, number: signal.Signals, code: int) -> None:
    """A signal ends a call that takes long; the board goes back, and no later test runs."""
    pytester.makepyfile(SUITE)
    with running(pytester) as process:
        wait_for(process.stdout, "HOLDING")
        until(lambda: boards.calls == ["long"], timeout=30)
        process.send_signal(number)
        output = process.communicate(timeout=15)[0]  # the call itself would take longer
    assert process.returncode == code, output
    assert boards.leases() == []
    assert boards.calls == ["long"]
    assert "INTERNALERROR" not in output


def test_loss_during_a_call(boards: FaultyLab, pytester: pytest.Pytester) -> None:
    """A call under way when the lease is released by somebody else is a device error, long before it would end."""
    pytester.makepyfile(SUITE)
    with running(pytester, "--jmp-ttl=5s") as process:
        wait_for(process.stdout, "HOLDING")
        until(lambda: boards.calls == ["long"], timeout=30)
        with Client.from_config(boards.config) as client:
            client.delete_lease(boards.lease().name)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 8, output
    assert "2 device errors" in output
    assert boards.calls == ["long"]


class Driver:
    """A driver client of a Jumpstarter that is still to come: it waits for the loop before or after its call."""

    def __init__(self, stub: Any, *, waits_first: bool) -> None:
        self.stub = stub
        self._waits_first = waits_first

    async def call_async(self, word: str) -> str:
        """Call, and wait for the loop."""
        if self._waits_first:
            await asyncio.sleep(0)
        await self.stub.DriverCall(word)
        await asyncio.sleep(0)
        return word


def test_nothing_is_sent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver client that needs the loop is called there, unless its call has left already."""
    monkeypatch.setattr(blocking_calls, "_CALL", Driver.call_async)
    sent: list[str] = []
    sent_in_loop: list[str] = []

    def send(request: str, timeout: float | None) -> None:
        sent.append(request)

    class LoopStub:
        async def DriverCall(self, request: str) -> None:  # noqa: N802  (the method's name)
            sent_in_loop.append(request)

    with start_blocking_portal() as loop, grpc.insecure_channel("unix:/nowhere") as channel:
        portal = DriverPortal(loop, lambda: channel)
        portal._driver_call = send  # type: ignore[assignment]  # here messages are words
        assert portal.call(Driver(LoopStub(), waits_first=True).call_async, "one") == "one"
        assert (sent, sent_in_loop) == ([], ["one"])
        with pytest.raises(RuntimeError, match="waits for something, and there is no event loop"):
            portal.call(Driver(LoopStub(), waits_first=False).call_async, "two")
        assert (sent, sent_in_loop) == (["two"], ["one"])


def test_made_here_without_a_tunnel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Over a channel straight to the exporter, as in a shell, a plain call is made in the waiting thread, too."""

    def refuse(*_: object) -> None:
        raise AssertionError("the call was made in the loop")

    with served(cast(Any, Counting)(file=str(tmp_path / "calls"))) as drivers:
        monkeypatch.setattr(DriverPortal, "_call_in_loop", refuse)
        assert cast(Any, drivers.root).call("count", "here", 0) == "here"


class Power(jumpstarter_pb2_grpc.ExporterServiceServicer):
    """An exporter that counts its calls."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def DriverCall(self, request: Any, context: object) -> Any:  # noqa: N802  (the method's name)
        """Count a call."""
        self.called.append(request.method)
        return jumpstarter_pb2.DriverCallResponse()


class Method:
    """A driver client that calls one method."""

    def __init__(self) -> None:
        self.stub: Any = None

    async def call_async(self, name: str) -> None:
        """Call it."""
        await self.stub.DriverCall(jumpstarter_pb2.DriverCallRequest(method=name))


@pytest.fixture
def socket() -> Iterator[str]:
    """Return a path as a tunnel's socket has it, where nobody listens."""
    folder = new_folder()
    yield f"unix:{folder}/device"
    shutil.rmtree(folder)


def test_waits_for_the_connection(monkeypatch: pytest.MonkeyPatch, socket: str) -> None:
    """A call that cannot be sent, since the connection is being opened again, waits until it can, and is sent once."""
    monkeypatch.setattr(blocking_calls, "_CALL", Method.call_async)
    power: Any = cast(Any, Power)()  # it inherits abstract stubs
    has_failed = threading.Event()

    def look(error: BaseException) -> bool:
        has_failed.set()
        return was_never_sent(error)

    monkeypatch.setattr(blocking_calls, "was_never_sent", look)
    with start_blocking_portal() as loop, grpc.insecure_channel(socket) as channel, ThreadPoolExecutor(2) as pool:
        call = pool.submit(DriverPortal(loop, lambda: channel).call, Method().call_async, "on")
        assert has_failed.wait(30)
        server = grpc.server(pool)
        jumpstarter_pb2_grpc.add_ExporterServiceServicer_to_server(power, server)
        server.add_insecure_port(socket)
        server.start()
        call.result(30)
        server.stop(None).wait(10)
    assert power.called == ["on"]


def test_gives_up_with_the_tunnel(monkeypatch: pytest.MonkeyPatch, socket: str) -> None:
    """A call that could not be sent ends at once where there will be no other connection."""
    monkeypatch.setattr(blocking_calls, "_CALL", Method.call_async)
    with start_blocking_portal() as loop, grpc.insecure_channel(socket) as channel:
        portal = DriverPortal(loop, lambda: channel, lambda: False)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            portal.call(Method().call_async, "on")
    assert was_never_sent(caught.value)


LONG = """
    import pytest

    @pytest.mark.parametrize("size", [4_000, 9_000, 15_000, 20_000, 400_000])
    def test_long_error(dut, size):
        driver = getattr(dut, "counter", dut.client)
        for way in (driver.call, lambda *args: dut._connected._portal.call(driver.call_async, *args)):
            with pytest.raises(Exception) as caught:
                way("fail", size)
            assert "e" * size + " THE REASON" in str(caught.value)
"""


def test_long_error_through_a_tunnel(pytester: pytest.Pytester, boards: FaultyLab) -> None:
    """An error of a driver comes whole, however long it is: gRPC drops long ones by default."""
    pytester.makepyfile(LONG)
    pytester.runpytest().assert_outcomes(passed=5)


def test_long_error_in_a_shell(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So it does over a socket that somebody else opened."""
    counting: Any = Counting
    pytester.makepyfile(LONG)
    with serving_drivers(counting(file=str(tmp_path / "calls"))) as path:
        monkeypatch.setenv("JUMPSTARTER_HOST", path)
        monkeypatch.setenv("JMP_DRIVERS_ALLOW", "UNSAFE")
        pytester.runpytest().assert_outcomes(passed=5)


def test_shell_without_an_allow_list(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a shell that names no driver clients to allow, the current client config does, as it does for `jmp`."""
    pytester.makepyfile("def test_it(dut): dut.client.on()")
    home, counting = tmp_path / "home", cast(Any, Counting)
    (home / "clients").mkdir(parents=True)
    (home / "config.yaml").write_text("kind: UserConfig\nconfig: {current-client: me}\n")
    fields = "kind: ClientConfig\nmetadata: {namespace: lab, name: me}\nendpoint: lab:1\ntoken: a-token\n"
    with serving_drivers(counting(file=str(tmp_path / "calls"))) as path:
        monkeypatch.setenv("JUMPSTARTER_HOST", path)
        monkeypatch.setenv("JMP_CLIENT_CONFIG_HOME", str(home))
        for drivers, outcome in (("jumpstarter_driver_power.*", {"passed": 1}), ("other.*", {"errors": 1})):
            (home / "clients" / "me.yaml").write_text(f"{fields}drivers: {{allow: ['{drivers}']}}\n")
            result = pytester.runpytest()
            result.assert_outcomes(**outcome)
        result.stdout.fnmatch_lines([f"*which drivers.allow of client config {home}/clients/me.yaml *does not allow*"])

"""Plain driver calls: what a caller gets, and what ends one that takes long."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from anyio.from_thread import start_blocking_portal
from faulty import FaultyLab
from jumpstarter_protocol.jumpstarter.v1 import jumpstarter_pb2, jumpstarter_pb2_grpc
from runs import running, until, wait_for

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.device import blocking_calls
from pytest_jumpstarter.device.blocking_calls import DriverPortal
from pytest_jumpstarter.device.call_window import was_never_sent

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
            assert dut.power.portal is not dut._portal
            def in_loop(driver, *args):
                return dut._portal.call(driver.call_async, *args)
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
                dut._portal.call(call)
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
        portal = DriverPortal(loop, channel)
        portal._driver_call = send  # type: ignore[assignment]  # here messages are words
        assert portal.call(Driver(LoopStub(), waits_first=True).call_async, "one") == "one"
        assert (sent, sent_in_loop) == ([], ["one"])
        with pytest.raises(RuntimeError, match="waits for something, and there is no event loop"):
            portal.call(Driver(LoopStub(), waits_first=False).call_async, "two")
        assert (sent, sent_in_loop) == (["two"], ["one"])


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
    """Return a path like that of a tunnel's socket, where nobody listens."""
    with tempfile.TemporaryDirectory(prefix="pj-") as folder:
        yield f"unix:{folder}/device"


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
        call = pool.submit(DriverPortal(loop, channel).call, Method().call_async, "on")
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
        portal = DriverPortal(loop, channel, lambda: False)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            portal.call(Method().call_async, "on")
    assert was_never_sent(caught.value)

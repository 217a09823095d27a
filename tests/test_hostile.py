"""Huge arguments, dead proxies, random frames: a run works or ends in an error, and the next one works."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import grpc
import pytest
from jumpstarter_protocol import router_pb2
from lab.peers import STATUSES, ManualExporter, Peer, wait_for

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.lab import Lab

DRIVE = "def test_it(dut): dut.power.on()"
SEED = 20


def test_huge_argument(suite: pytest.Pytester) -> None:
    """A driver call with an argument of 4 MiB is refused in words that say why, and the next call works."""
    suite.makepyfile(
        """
        import pytest
        from jumpstarter.client.core import DriverError

        def test_it(dut):
            with pytest.raises(DriverError, match="larger than max"):
                dut.power.call("on", "x" * 4 * 1024 * 1024)
            dut.power.on()
        """
    )
    suite.runpytest().assert_outcomes(passed=1)


def test_dead_proxies(suite: pytest.Pytester, dead_proxies: None, lab_file_of_one: str) -> None:
    """With every proxy variable set to where nothing listens, both a lab that runs and one of our own are reached."""
    suite.makepyfile(DRIVE)
    suite.runpytest_subprocess().assert_outcomes(passed=1)
    suite.runpytest_subprocess(f"--jmp-lab={lab_file_of_one}").assert_outcomes(passed=1)


@pytest.fixture
def dead_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set every proxy variable, and exempt nobody."""
    for name in ("grpc_proxy", "http_proxy", "https_proxy", "all_proxy"):
        for spelling in (name, name.upper()):
            monkeypatch.setenv(spelling, "http://127.0.0.1:9")
    for name in ("no_grpc_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def lab_file_of_one(suite: pytest.Pytester) -> str:
    """Write a lab file with one exporter."""
    file = suite.path / "own-lab.yaml"
    file.write_text(
        "metadata: {name: own-1, labels: {kind: dut}}\n"
        "export: {power: {type: jumpstarter_driver_power.driver.MockPower}}\n"
    )
    return str(file)


def random_frames(source: random.Random) -> Iterator[bytes]:
    """Yield bytes that are no frames, frames of random kinds and contents, and what begins like HTTP/2."""
    yield router_pb2.StreamRequest(
        payload=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + source.randbytes(1000)
    ).SerializeToString()
    for _ in range(20):
        frame = router_pb2.StreamRequest(payload=source.randbytes(source.randrange(5000)))
        frame.frame_type = source.choice((0, 3, 6, 7, 99))  # type: ignore[assignment]  # any number
        yield source.choice((source.randbytes(source.randrange(5000)), frame.SerializeToString()))


def test_random_frames_to_an_exporter(suite: pytest.Pytester, lab: Lab) -> None:
    """An exporter that was sent random frames through the router serves the next client."""
    source = random.Random(SEED)
    with Peer(lab.client_config) as peer:
        name = peer.create(selector="kind=dut", duration=60).name
        try:
            peer.await_condition(name, "Ready", "True", "Ready")
            wait_for(lambda: STATUSES[peer.exporter("board-1").status] == "LEASE_READY", "an exporter that is ready")
            for _ in range(8):
                token = peer.dial(name.rpartition("/")[2]).router_token
                with suppress(grpc.RpcError):
                    list(peer.stream(token, random_frames(source)))
        finally:
            peer.delete(name)
    suite.makepyfile(DRIVE)
    suite.runpytest().assert_outcomes(passed=1)


@contextmanager
def hostile_exporter(lab: Lab) -> Iterator[None]:
    """Be the exporter `guest-1`: take every lease, and answer whoever dials with random frames."""
    source = random.Random(SEED)
    with ManualExporter(lab.config_dir / "exporters" / "guest-1.yaml") as exporter:
        exporter.join()

        def serve() -> None:
            lease = exporter.status.next().lease_name
            exporter.report("LEASE_READY")
            calls = exporter.listen(lease)
            with suppress(grpc.RpcError, EOFError):
                while True:
                    token = calls.next(timeout=60).router_token
                    with suppress(grpc.RpcError):
                        list(exporter.stream(token, random_frames(source)))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        exporter.report("AVAILABLE")
    thread.join(timeout=60)


def test_random_frames_from_an_exporter(suite: pytest.Pytester, lab: Lab, client: Client) -> None:
    """A board that answers with random frames is a device error, and its lease is given back."""
    suite.makepyfile(DRIVE)
    with hostile_exporter(lab):
        result = suite.runpytest("--jmp-selector=board=guest")
    assert result.ret == 8
    result.stdout.fnmatch_lines(["DEVICE ERROR test_random_frames_from_an_exporter.py::test_it (setup)", "*guest-1*"])
    assert list(client.list_leases()) == []

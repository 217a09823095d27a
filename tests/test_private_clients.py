"""Habits of the clients of private driver packages, through a lease: each behaves as with Jumpstarter alone."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

LAB_FILE = """\
metadata: {name: own-1, labels: {kind: dut}}
export:
  parrot: {type: drivers_with_habits.Parrot}
  first: {type: drivers_with_habits.Parrot}
  namesake: {type: drivers_with_habits.Namesake}
  group: {children: {parrot: {type: drivers_with_habits.Parrot}, again: {ref: parrot}}}
  tcp: {type: jumpstarter_driver_network.driver.TcpNetwork, config: {host: 127.0.0.1, port: %d}}
  echo: {type: jumpstarter_driver_network.driver.EchoNetwork}
  power: {type: jumpstarter_driver_power.driver.MockPower}
  flasher: {type: jumpstarter_driver_opendal.driver.MockFlasher}
"""
HABITS = """
    import asyncio, logging, subprocess, sys, time
    import pytest
    from click.testing import CliRunner

    @pytest.fixture
    def parrot(dut):
        dut.parrot.seen.clear()
        return dut.parrot

    def test_coroutines_in_the_portal(parrot):
        assert parrot.portal.call(parrot.call_async, "echo", 1) == 1
        assert parrot.soon("x") == "x"
        assert parrot.many(50) == list(range(50))

    def test_overridden_methods(parrot):
        parrot.call("echo", 1)
        with parrot.stream() as stream:
            stream.send(b"a")
            assert stream.receive() == b"a"
        assert parrot.seen == ["call echo", "call_async echo", "stream_async connect"]

    def test_fields_of_its_own(parrot):
        with parrot.lock: assert parrot == parrot and parrot.call("echo") == []

    def test_names_of_a_device(dut):
        client = dut.namesake
        found = {name: getattr(client, name) for name in ("role", "exporter", "lease", "console", "env", "flash")}
        words = [value if isinstance(value, str) else value() for value in found.values()]
        assert all(each.endswith("of its own") for each in words)
        assert client.call("echo", 5) == 5
        assert dut.role == "dut" and dut.exporter.name == "own-1"

    def test_context_manager(parrot):
        with parrot as stream:
            stream.send(b"b")
            assert stream.receive() == b"b"

    def test_streams(parrot):
        with parrot.stream("greet") as stream: assert stream.receive() == b"hello"
        stream = parrot.open_stream()
        stream.send(b"c")
        assert stream.receive() == b"c"

    @pytest.mark.parametrize("value", [1, 1.5, "ä", None, True, [1, [2]], {"a": {"b": None}}, float(2**53), "", [], {}])
    def test_values(parrot, value):
        assert parrot.call("echo", value) == value

    def test_generator_that_is_left(parrot):
        assert next(iter(parrot.streamingcall("count", 1000))) == 0
        assert list(parrot.streamingcall("count", 5)) == [0, 1, 2, 3, 4]

    def test_unknown_method(parrot):
        with pytest.raises(NotImplementedError, match="nothing"): parrot.call("nothing")

    def test_a_value_that_cannot_be_sent(parrot):
        with pytest.raises(Exception): parrot.call("echo", object())
        assert parrot.call("echo", 2) == 2

    def test_logger(parrot, caplog):
        parrot.warn()
        assert "the parrot is tired" in caplog.text

    def test_nested_and_shared(dut):
        assert dut.group.parrot.call("echo", 3) == dut.group.again.call("echo", 3) == 3

    def test_attribute_on_the_root(dut):
        dut.client.note = "x"
        assert dut.note == dut.client.note == "x"

    def test_commands(dut):
        for root in (dut, dut.client):
            result = CliRunner().invoke(root.cli(), ["parrot", "say", "hello"])
            assert result.output == "parrot: hello\\n"
        assert CliRunner().invoke(dut.cli(), ["--help"]).exit_code == 0

    def test_program_beside_it(parrot, capfd):
        code = "print(1)"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True).stdout == b"1\\n"
        parrot.call("echo", 1)
        assert capfd.readouterr() == ("", "")

    def test_called_from_an_async_test(parrot):
        async def main():
            calls = [asyncio.to_thread(parrot.call, "echo", number) for number in range(30)]
            return [parrot.call("echo", -1), *await asyncio.gather(*calls)]
        assert asyncio.run(main()) == list(range(-1, 30))

    def test_log_of_the_exporter(dut, caplog):
        caplog.set_level(logging.INFO)
        with dut.log_stream():
            while "power on" not in caplog.messages:  # pytest-timeout ends it
                dut.power.on()
                time.sleep(0.05)
"""
LOAD = """
    import gzip, lzma, os, signal, socket
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import ExitStack
    import pytest
    from jumpstarter_driver_network.adapters import (
        NovncAdapter, PexpectAdapter, TcpPortforwardAdapter, UnixPortforwardAdapter
    )

    def at_once(calls):
        with ThreadPoolExecutor(8) as pool:
            return [each.result(60) for each in [pool.submit(call) for call in calls]]

    def test_built_by_threads(dut):
        assert len({id(each) for each in at_once([lambda: dut.first] * 8)}) == 1

    def test_all_kinds_from_threads(dut):
        def stream():
            with dut.parrot.stream() as stream:
                stream.send(b"x")
                return stream.receive()
        kinds = {
            lambda: dut.parrot.call("late", 1, 0): 1,
            lambda: list(dut.parrot.streamingcall("count", 30)): list(range(30)),
            lambda: dut.parrot.many(10): list(range(10)),
            stream: b"x",
        }
        assert at_once([*kinds] * 10) == [*kinds.values()] * 10

    def test_a_long_call_blocks_no_other(dut):
        with ThreadPoolExecutor(1) as pool:
            long = pool.submit(dut.parrot.call, "late", "done", 1)
            made = 0
            while not long.done():
                dut.parrot.call("echo", 1)
                made += 1
        assert long.result() == "done" and made > 5

    def test_many_streams(dut):
        with ExitStack() as stack:
            streams = [stack.enter_context(dut.parrot.stream()) for _ in range(40)]
            for number, stream in enumerate(streams): stream.send(b"%d" % number)
            assert [stream.receive() for stream in streams] == [b"%d" % number for number in range(40)]

    def test_big(dut):
        chunk = os.urandom(1 << 20)
        assert dut.parrot.send_all([chunk] * 32) == 32 << 20
        assert len(dut.parrot.call("echo", "x" * (3 << 20))) == 3 << 20
        assert len(list(dut.parrot.streamingcall("count", 2000))) == 2000

    def test_port_forwards(dut):
        def use(connection):
            connection.sendall(b"abc")
            return connection.recv(3)
        with TcpPortforwardAdapter(client=dut.tcp) as address:
            def one():
                with socket.create_connection(address) as connection: return use(connection)
            assert at_once([one] * 20) == [b"abc"] * 20
        with UnixPortforwardAdapter(client=dut.tcp) as path, socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            assert use(connection) == b"abc"

    def test_adapters(dut):
        with PexpectAdapter(client=dut.echo) as session:
            session.sendline("hello")
            session.expect_exact("hello", timeout=30)
        with NovncAdapter(client=dut.tcp) as url: assert url.startswith("http")

    def test_flash(dut, tmp_path):
        image, dump = tmp_path / "image", tmp_path / "dump"
        image.write_bytes(os.urandom(1 << 22))
        dut.flasher.flash(str(image))
        dut.flasher.dump(str(dump))
        assert dump.read_bytes() == image.read_bytes()
        for packed in (gzip.compress(b"x" * 9999), lzma.compress(b"x" * 9999)):
            image.write_bytes(packed)
            dut.flasher.flash(str(image))

    def test_interrupted(dut):
        class Alarm(Exception): pass
        def raise_alarm(*_): raise Alarm
        before = signal.signal(signal.SIGALRM, raise_alarm)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Alarm): dut.parrot.call("late", 1, 60)
        signal.signal(signal.SIGALRM, before)
        assert dut.parrot.call("echo", 1) == 1
"""


class Echo(socketserver.BaseRequestHandler):
    """A connection on which everything is sent back."""

    def handle(self) -> None:
        """Send everything back."""
        while data := self.request.recv(65536):
            self.request.sendall(data)


@pytest.fixture
def echo_port() -> Iterator[int]:
    """Return a port whose connections send everything back."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(("source", "count"), [(HABITS, 27), (LOAD, 9)], ids=["habits", "load"])
def test_private_clients(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, echo_port: int, source: str, count: int
) -> None:
    """Coroutines, overrides, streams, threads, port forwards, big data and interruptions work as with Jumpstarter."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    suite.makeini("[pytest]\njmp_selector = kind=dut\njmp_lab = own-lab.yaml\n")
    suite.path.joinpath("own-lab.yaml").write_text(LAB_FILE % echo_port)
    suite.makepyfile(source)
    suite.runpytest_subprocess("-p", "no:randomly", "--timeout=120").assert_outcomes(passed=count)

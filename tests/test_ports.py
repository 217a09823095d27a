"""A serial port is shared, handed to others on the exporter, closed after its last user, and opened again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import exporter_document, serve_test_drivers

from pytest_jumpstarter.lab import Lab

BOARD = """\
  serial: {{type: drivers_for_flashing.Board, config: {{url: {link}}}}}
  storage:
    type: drivers_for_flashing.PortFlasher
    config: {{url: {link}}}
    children: {{serial: {{ref: serial}}}}
"""


@pytest.fixture(scope="module")
def port_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Serve a board that is flashed over its serial port."""
    folder = tmp_path_factory.mktemp("lab")
    board = exporter_document("board-1", "kind: dut", BOARD.format(link=folder / "tty"))
    with serve_test_drivers(folder, board) as lab:
        yield lab


@pytest.fixture
def suite(pytester: pytest.Pytester, port_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a folder whose ini file points at this board."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where the driver client is
    pytester.makeini(f"[pytest]\njmp_client = {port_lab.client_config}\njmp_selector = kind=dut\njmp_wait = 60s\n")
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def image(tmp_path):
            path = tmp_path / "image.img"
            path.write_bytes(b"an image")
            return path

        @pytest.fixture
        def port(dut):
            from pytest_jumpstarter.device.device import connected
            _ = dut.serial
            return connected(dut)._ports.at("serial")

        def pytest_jumpstarter_device_ready(device):
            with device.port_free("serial"):
                device.storage.flash("in the hook")
        """
    )
    return pytester


def sections_of(suite: pytest.Pytester) -> dict[str, str]:
    """Return what the console said during each test, by its name."""
    told: dict[str, Any] = json.loads(suite.path.joinpath("run.json").read_text())
    return {
        test["id"].partition("::")[2]: test["sections"].get("console of dut (board-1)", "") for test in told["tests"]
    }


def test_port_is_free(suite: pytest.Pytester) -> None:
    """A port that nobody records is free after its last user, after a release, inside of `port_free` and of flashes."""
    suite.makepyfile(
        """
        import time
        import pytest

        def test_before(dut, image):
            assert dut.storage.flash(str(image))

        def test_users(dut, image, port):
            with dut.serial.pexpect() as first:
                first.sendline("one"); first.expect("heard one", timeout=30)
                with dut.serial.pexpect() as second:
                    second.sendline("two"); second.expect("heard two", timeout=30)
                assert port._stream is not None
                first.sendline("three"); first.expect("heard three", timeout=30)
            assert port._stream is None
            dut.storage.flash(str(image))

        def test_console(dut, image, console):
            console.sendline("one"); console.expect("heard one", timeout=30)
            with dut.port_free("serial"):
                dut.storage.flash(str(image))
                with pytest.raises(RuntimeError, match="was used while its port is free for others"):
                    console.send("x")
                with pytest.raises(RuntimeError, match="was used while its port is free for others"):
                    console.expect("x", timeout=1)
                with dut.serial.pexpect() as borrower:  # as a flasher's own client does
                    borrower.sendline("two"); borrower.expect("heard two", timeout=30)
                dut.storage.flash(str(image))
            console.expect("heard two", timeout=30)  # it was recorded
            console.sendline("three"); console.expect("heard three", timeout=30)

        def test_flash(dut, image, console, port):
            console.sendline("one"); console.expect("heard one", timeout=30)
            assert dut.flash(image)
            dut.serial.call("say", "a board that boots")
            console.expect("a board that boots", timeout=30)
            with pytest.raises(ZeroDivisionError):
                with dut.port_free():
                    assert port._stream is None
                    1 / 0
            deadline = time.monotonic() + 60
            while port._stream is None and time.monotonic() < deadline:
                time.sleep(0.01)
            dut.serial.call("say", "after an error")
            console.expect("after an error", timeout=30)

        def test_release(dut, image, console, port):
            console.sendline("one"); console.expect("heard one", timeout=30)
            console.release()
            assert port._stream is None
            dut.storage.flash(str(image))
            console.expect_exact(["never", "\\n"], timeout=30)  # what it said before the release
            console.release()
            console.sendline("two"); console.expect("heard two", timeout=30)
            console.release()
            console.spawn.sendline("three"); console.expect("heard three", timeout=30)

        def test_close(dut, image):
            dut.console().close()
            dut.storage.flash(str(image))
            assert dut.console() is dut.console()
            dut.console().sendline("again"); dut.console().expect("heard again", timeout=30)
        """
    )
    suite.runpytest_subprocess().assert_outcomes(passed=6)


def test_recorded_port(suite: pytest.Pytester) -> None:
    """A recorded port stays open after its last user; a flash and the exporter may close it, and reports say when."""
    suite.makepyfile(
        """
        import time, pytest

        def until_open(port, again):
            deadline = time.monotonic() + 60
            while port._stream is None or port.opened == again:
                assert time.monotonic() < deadline
                time.sleep(0.05)

        def test_flash(dut, image, port):
            with dut.serial.pexpect() as user:
                user.sendline("one"); user.expect("heard one", timeout=30)
            assert port._stream is not None
            assert dut.flash(image)
            assert port._stream is not None
            dut.serial.call("say", "after the flash")
            with dut.serial.pexpect() as user:
                user.sendline("two"); user.expect("heard two", timeout=30)
            pytest.fail("to see it")

        def test_exporter(dut, image, port, console):
            console.sendline("one"); console.expect("heard one", timeout=30)
            opened = port.opened
            dut.serial.call("close")
            dut.storage.flash(str(image))  # nobody opened the port meanwhile
            until_open(port, opened)
            dut.serial.call("say", "recorded again")
            console.expect("recorded again", timeout=30)

            dut.serial.call("close")
            dut.storage.flash(str(image))
            console.sendline("two"); console.expect("heard two", timeout=30)
            pytest.fail("to see it")

        def test_next(dut, port, console):
            console.sendline("three"); console.expect("heard three", timeout=30)
            pytest.fail("to see it")
        """
    )
    suite.runpytest_subprocess("--jmp-console=on", "--jmp-report=run.json").assert_outcomes(failed=3)
    flash, exporter, later = sections_of(suite).values()
    assert re.search(r"heard one\n.*\(port closed: storage flashes\)\n.*\(port open again\)\n(.*\n)*.*heard two", flash)
    assert "after the flash" in flash
    assert exporter.count("(port closed: the exporter closed it)") == exporter.count("(port open again)") == 2
    assert re.search(r"\(port open again\)\n.*recorded again\n", exporter)
    assert "port closed" not in later


def test_log_stream(suite: pytest.Pytester) -> None:
    """`log_stream` in a test gets each message while it is open, and takes none from the log in the report."""
    suite.makepyfile(
        """
        import time, pytest

        def test_it(dut, caplog):
            caplog.set_level("INFO")
            def told(name):
                return [each.message for each in caplog.records if each.name == name and "Connecting" in each.message]
            with dut.client.log_stream(), dut.serial.log_stream():
                for _ in range(10):
                    with dut.serial.stream():
                        pass
                deadline = time.monotonic() + 30
                while len(told("jumpstarter.exporter.dut.driver")) < 10 and time.monotonic() < deadline:
                    time.sleep(0.05)
            assert len(told("jumpstarter.exporter.dut.driver")) == 10
            assert len(told("exporter:driver")) == 20, "two followers"
            with dut.serial.stream():
                pass
            deadline = time.monotonic() + 30
            while len(told("jumpstarter.exporter.dut.driver")) < 11 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert len(told("exporter:driver")) == 20
            pytest.fail("to see it")

        def test_silent(dut):
            pytest.fail("to see it")
        """
    )
    result = suite.runpytest_subprocess("--jmp-report=run.json")
    result.assert_outcomes(failed=2)
    section = result.stdout.str().partition("exporter log of dut")[2]
    assert section.count("Connecting") == 11
    assert re.search(
        r"^\S+ \(port closed since \S+: nobody uses it\)\n\(nothing\)$", sections_of(suite)["test_silent"], re.MULTILINE
    )

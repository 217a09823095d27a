"""`dut.flash`: an image is flashed once in a lease, and its progress is shown."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import exporter_document, serve_test_drivers
from runs import running, until, wait_for
from unpacked import unpacked

from pytest_jumpstarter.client.v1 import Client, ClientConfig
from pytest_jumpstarter.device.transfers import Outcome, Transfer
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.report.progress import words

DRIVERS = """\
  power: {type: jumpstarter_driver_power.driver.MockPower}
  storage: {type: drivers_for_flashing.SlowFlasher}
"""
FOLDERS = "  storage: {type: drivers_for_flashing.FolderFlasher}\n"
SLOW = "  slow: {type: drivers_for_flashing.SlowFlasher, config: {delay: 0.05}}\n"

IMAGE = b"an image" * 200_000  # in 25 pieces, which the slow flasher takes 1.2 s for, or longer

SHOWS_SOON = """
    import pytest
    from pytest_jumpstarter.report import progress

    progress.SHOWN_AFTER, progress.LINE_EVERY, progress.TOLD_AFTER = 0.1, 0.3, 0.3
"""

FLASHES_SLOWLY = """
    def test_flash(dut, request):
        assert dut.flash(request.config.rootpath / "image.bin", driver="slow")
"""


@pytest.fixture(scope="module")
def flashers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Serve boards with one flasher, with two, and with one that takes folders."""
    documents = [
        exporter_document("one-1", "kind: one", DRIVERS),
        exporter_document("two-1", "kind: two", DRIVERS + SLOW),
        exporter_document("two-2", "kind: two", DRIVERS + SLOW),
        exporter_document("folders-1", "kind: folders", FOLDERS),
    ]
    with serve_test_drivers(tmp_path_factory.mktemp("lab"), *documents) as lab:
        yield lab


@pytest.fixture
def suite(pytester: pytest.Pytester, flashers: Lab) -> pytest.Pytester:
    """Return a folder whose ini file points at these boards."""
    pytester.makeini(f"[pytest]\njmp_client = {flashers.client_config}\njmp_selector = kind=one\njmp_wait = 60s\n")
    pytester.path.joinpath("image.bin").write_bytes(IMAGE)
    return pytester


@pytest.fixture
def slow_suite(suite: pytest.Pytester) -> pytest.Pytester:
    """Return a suite with a test that flashes slowly, and shows it soon."""
    suite.makeconftest(SHOWS_SOON)
    suite.makepyfile(FLASHES_SLOWLY)
    return suite


def transfers_of(suite: pytest.Pytester) -> dict[str, list[dict[str, Any]]]:
    """Return the transfers of each test in `run.json`, by its name."""
    told = json.loads(suite.path.joinpath("run.json").read_text())
    return {test["id"].partition("::")[2]: test["transfers"] for test in told["tests"]}


def test_once(suite: pytest.Pytester) -> None:
    """An image is flashed once in a lease: content, target and arguments count, and what the test does by itself."""
    suite.makeconftest(
        """
        from functools import partial
        from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
        from threading import Thread

        import pytest
        from pytest_jumpstarter.device.device import connected

        @pytest.hookimpl
        def pytest_jumpstarter_device_ready(device):
            device.changes = []
            connected(device).on_change.append(device.changes.append)

        @pytest.fixture
        def image(tmp_path):
            path = tmp_path / "image.img"
            path.write_bytes(b"2.0.0")
            return path

        @pytest.fixture
        def url(tmp_path):
            tmp_path.joinpath("at-a-url.img").write_bytes(b"of a server")
            handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
            with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
                Thread(target=server.serve_forever).start()
                yield f"http://127.0.0.1:{server.server_port}/at-a-url.img"
                server.shutdown()
        """
    )
    suite.makepyfile(
        """
        import gzip, pytest

        def test_content(dut, image):
            assert dut.flash(image) and not dut.flash(image) and not dut.flash(str(image))
            image.write_bytes(b"2.0.1")
            assert dut.flash(image) and not dut.flash(image)
            assert dut.flash(image, force=True)

        def test_next_test(dut, image):
            image.write_bytes(b"2.0.1")
            assert not dut.flash(image)

        def test_targets(dut, image):
            assert dut.flash(image, target="boot") and dut.flash(image, target="root")
            assert not dut.flash(image, target="boot") and not dut.flash({"boot": image, "root": image})
            assert dut.flash(image), "a whole image replaces its parts"
            assert dut.flash({"boot": image, "root": image}) and not dut.flash(image, target="root")
            assert dut.flash(image), "a part replaces a part of the whole"

        def test_digest(dut, image):
            assert dut.flash(image, digest="build 1")
            image.write_bytes(b"other")
            assert not dut.flash(image, digest="build 1") and dut.flash(image, digest="build 2")

        def test_url(dut, url):
            assert dut.flash(url) and not dut.flash(url)
            assert dut.flash(url, digest="a newer build")
            for end in ("?token=abcdefghijklmnopq/rstuvwxyz", "?X-Amz-Signature=abcdefghijklmnopqrstuvwxyz#part"):
                assert dut.flash(f"{url}{end}", digest=end)

        def test_arguments(dut, image):
            image.write_bytes(gzip.compress(b"an image"))
            assert dut.flash(image, compression="gzip")
            assert not dut.flash(image, compression="gzip") and dut.flash(image)

        def test_of_the_test_itself(dut, image):
            dut.flash(image)
            del dut.changes[:]
            dut.storage.dump(image.with_name("dumped"))
            assert not dut.changes and not dut.flash(image)
            dut.storage.flash(image)
            assert dut.changes == ["storage flashes it"] and dut.flash(image)

        def test_failure(dut, image):
            assert dut.flash(image, target="boot")
            with pytest.raises(Exception, match="there is no target"):
                dut.flash({"boot": image, "nothing": image})
            assert dut.flash(image, target="boot")

        def test_verify(dut, image):
            def never():
                raise AssertionError("it says nothing")
            calls = []
            image.write_bytes(b"verified")
            assert not dut.flash(image, target="a", verify=lambda: calls.append(1) or True) and calls
            assert not dut.flash(image, target="a", verify=never)
            assert dut.flash(image, target="b", verify=lambda: False)
            assert dut.flash(image, target="c", verify=never)
            image.write_bytes(b"new")
            assert dut.flash(image, target="a", verify=lambda: True), "this lease knows that another image is there"
            with pytest.raises(ZeroDivisionError):
                dut.flash(image, target="d", verify=lambda: 1 / 0)

        def test_wrong(dut, image):
            with pytest.raises(OSError, match="missing.img"):
                dut.flash(image.with_name("missing.img"))
            with pytest.raises(TypeError, match="target='a'"):
                dut.flash({"a": image}, target="a")
            with pytest.raises(Exception, match="there is no driver 'sd'; there are power, storage"):
                dut.flash(image, driver="sd")
            with pytest.raises(Exception, match=r"driver 'power' \\(PowerClient\\) has no method `flash`"):
                dut.flash(image, driver="power")
            with pytest.raises(AttributeError, match=r"call it: dut.flash\\(\\)"):
                dut.flash.image
        """
    )
    suite.runpytest_subprocess("--jmp-report=run.json", "--jmp-report=run.html").assert_outcomes(passed=10)
    told = transfers_of(suite)
    page = unpacked(suite.path.joinpath("run.html").read_text())
    assert "dut storage: flash image.img done, 5 bytes, 0." in page
    assert "dut storage: flash at-a-url.img skipped, 0 bytes, 0." in page
    assert [each["outcome"] for each in told["test_content"]] == ["done", *["skipped"] * 2, "done", "skipped", "done"]
    assert {each["bytes"] for each in told["test_content"] if each["outcome"] == "done"} == {5}
    assert [each["kind"] for each in told["test_of_the_test_itself"]] == [
        "flash",
        "transfer",
        "flash",
        "transfer",
        "flash",
    ]
    assert told["test_of_the_test_itself"][1]["bytes"] == 1000
    assert [(each["outcome"], each["image"], each["bytes"]) for each in told["test_url"]] == [
        ("done", "at-a-url.img", 0),
        ("skipped", "at-a-url.img", 0),
        *[("done", "at-a-url.img", 0)] * 3,
    ]
    assert [each["outcome"] for each in told["test_failure"]] == ["done", "failed", "done"]


def test_folder(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is flashed once, by a flasher that takes folders; names and contents of all files in it count."""
    monkeypatch.syspath_prepend(Path(__file__).parent)  # for the client class
    suite.makepyfile(
        """
        def test_it(dut, tmp_path):
            folder = tmp_path / "images"
            folder.joinpath("sub").mkdir(parents=True)
            folder.joinpath("boot").write_bytes(b"a boot partition")
            folder.joinpath("sub", "root").write_bytes(b"a root partition")
            assert dut.flash(folder) and not dut.flash(folder) and not dut.flash(str(folder))
            folder.joinpath("sub", "root").write_bytes(b"a new partition")
            assert dut.flash(folder) and not dut.flash(folder)
            folder.joinpath("sub", "root").rename(folder / "root")
            assert dut.flash(folder) and not dut.flash(folder)
            folder.joinpath("more").touch()
            assert dut.flash(folder)
        """
    )
    result = suite.runpytest_subprocess("--jmp-selector=kind=folders", "--jmp-report=run.json")
    result.assert_outcomes(passed=1)
    told = transfers_of(suite)["test_it"]
    assert [(each["image"], each["bytes"]) for each in told if each["outcome"] == "done"] == [
        ("images", 32),
        *[("images", 31)] * 3,
    ]


def test_board_states(suite: pytest.Pytester) -> None:
    """A flash spoils the state of the board, unless it is a part of the transition."""
    suite.makeconftest(
        """
        from pytest_jumpstarter import board_state

        @board_state
        def off(dut):
            dut.power.off()

        @board_state(after=off)
        def ready(dut, pytestconfig):
            dut.flash(pytestconfig.rootpath / "image.bin")
        """
    )
    suite.makepyfile(
        """
        def test_one(dut, ready):
            assert dut.state.current == "ready"

        def test_two(dut, ready, pytestconfig):
            assert not dut.flash(pytestconfig.rootpath / "image.bin")
            assert dut.state.current == "ready"

        def test_three(dut, ready, pytestconfig):
            dut.storage.flash(pytestconfig.rootpath / "image.bin")
            assert dut.state.current is None

        def test_four(dut, ready):
            assert dut.state.current == "ready"
        """
    )
    result = suite.runpytest_subprocess()
    result.assert_outcomes(passed=4)
    assert result.stdout.str().count("off -> ready") == 2


def test_always(suite: pytest.Pytester) -> None:
    """With `--jmp-flash always` each flash is one; with two flashers the test must choose one."""
    suite.makepyfile(
        """
        import pytest

        def test_one(dut, request, pytestconfig):
            image = pytestconfig.rootpath / "image.bin"
            with pytest.raises(Exception, match="2 drivers can flash .storage, slow.; choose one: dut.flash"):
                dut.flash(image)
            assert dut.flash(image, driver="storage")
            assert dut.flash(image, driver="storage")
        """
    )
    suite.runpytest_subprocess("--jmp-selector=kind=two", "--jmp-flash=always").assert_outcomes(passed=1)
    result = suite.runpytest_subprocess("--jmp-flash=never")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*--jmp-flash: 'never' is neither once nor always*")


def test_big_image(suite: pytest.Pytester) -> None:
    """
    The second flash of a big image only reads it, which takes less than a second for 256 MiB.

    IMAGE_MIB is the size; a smaller image has less time, the best of three.
    """
    suite.makepyfile(
        """
        import os, random, time

        def test_it(dut, tmp_path):
            image, size = tmp_path / "big.img", int(os.environ.get("IMAGE_MIB", "64"))
            with image.open("wb") as file:
                for number in range(size):
                    file.write(random.Random(number).randbytes(1 << 20))
            began = time.monotonic()
            assert dut.flash(image)
            first, took = time.monotonic() - began, []
            for _ in range(3):
                began = time.monotonic()
                assert not dut.flash(image)
                took.append(time.monotonic() - began)
            print(f"{size} MiB: first flash {first:.2f}s, second {took[0]:.3f}s, best {min(took):.3f}s")
            assert min(took) < 2 * size / 256
        """
    )
    suite.runpytest_subprocess("-s").assert_outcomes(passed=1)


def shown(output: str) -> list[str]:
    """Return what stands in the lines of progress, the last one of each transfer as `took`."""
    return re.findall(r"jumpstarter: (?:gw\d: )?dut slow: (.*?) \(image\.bin\)[\r\n]", output)


@pytest.mark.parametrize("arguments", [["-rA"], ["-s"], ["-o", "log_cli=true"], ["-n", "2"], ["-q"]], ids=" ".join)
def test_progress_in_a_pipe(slow_suite: pytest.Pytester, arguments: list[str]) -> None:
    """Where there is no terminal, each line of progress is a line of its own, and pytest's own lines stay whole."""
    result = slow_suite.runpytest_subprocess("--jmp-selector=kind=two", *arguments)
    result.assert_outcomes(passed=1)
    output = result.stdout.str()
    lines = shown(output)
    assert "\x1b" not in output
    if arguments == ["-q"]:
        assert lines == []
        return
    assert len(lines) >= 2
    assert all(re.match(r" *\d+ % \d\.\d of 1\.6 MB, ", line) for line in lines)
    assert re.search(r"MB/s, took \d\.\ds$", lines[-1])
    assert all(line.startswith("jumpstarter: ") for line in output.splitlines() if "dut slow:" in line)
    assert output.rstrip().splitlines()[-1].startswith("=")


SPEAKS_MEANWHILE = """
    import threading, time

    @pytest.fixture(autouse=True)
    def speaks(dut, request):
        output = request.config.pluginmanager.getplugin("jumpstarter-progress")._output

        def speak():
            while not output._is_drawn:
                time.sleep(0.01)
            output.line("dut| a line of a console")

        threading.Thread(target=speak, daemon=True).start()
"""


def test_progress_on_a_terminal(slow_suite: pytest.Pytester) -> None:
    """
    On a terminal one line is written again and again, no wider than it, and pytest goes on in the next line.

    The lines of others take its place, and it goes on below them.
    """
    slow_suite.makeconftest(SHOWS_SOON + SPEAKS_MEANWHILE)
    output = on_terminal(slow_suite, "--jmp-selector=kind=two")
    drawn = re.findall(r"\r(jumpstarter: dut slow:[^\r\n]*)\x1b\[K", output)
    assert len(drawn) >= 2
    assert max(map(len, drawn)) < 80
    assert re.search(r"test_progress_on_a_terminal\.py \r?\n\rjumpstarter: dut slow", output)
    assert re.search(r"\x1b\[K\r\x1b\[Kdut\| a line of a console\r?\n\rjumpstarter: dut slow", output)
    assert re.search(r"took \d\.\ds \(image\.bin\)\x1b\[K\r\n\S*\.", output)
    assert "1 passed" in output.rstrip().splitlines()[-1]


def on_terminal(suite: pytest.Pytester, *arguments: str) -> str:
    """Run a suite on a terminal of 80 columns, and return all that it writes."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    environ = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen(command, cwd=suite.path, env=environ, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        with suppress(OSError):  # Linux's end of a terminal
            while data := os.read(ours, 4096):
                seen += data
        os.close(ours)
        assert process.wait(60) == 0, seen.decode()
    return seen.decode()


@pytest.mark.parametrize(
    ("count", "total", "seconds", "outcome", "expected"),
    [
        (0, 0, 3.04, "", "dut sd: 3.0s so far (a.img)"),
        (5_000_000, 0, 2.5, "", "dut sd: 5.0 MB, 2.0 MB/s, 2.5s so far (a.img)"),
        (5_000_000, 20_000_000, 5.0, "", "dut sd:  25 % 5.0 of 20.0 MB, 1.0 MB/s, 15s left (a.img)"),
        (10_000, 20_000_000, 1.0, "", "dut sd:   0 % 0.0 of 20.0 MB, 0.0 MB/s, 33m19s left (a.img)"),
        (20_000_000, 20_000_000, 5.0, "", "dut sd: 100 % 20.0 of 20.0 MB, all sent, 5.0s so far (a.img)"),
        (20_000_000, 20_000_000, 150, "done", "dut sd: 100 % 20.0 of 20.0 MB, 0.1 MB/s, took 2m30s (a.img)"),
        (0, 0, 30.0, "failed", "dut sd: failed after 30s (a.img)"),
    ],
)
def test_words(
    count: int, total: int, seconds: float, outcome: Outcome, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of progress says what is known: share, bytes, rate, and the time that is left or was taken."""
    transfer = Transfer("sd", "flash", "a.img")
    transfer.count, transfer.total = count, total
    monkeypatch.setattr(Transfer, "seconds", seconds)
    if outcome:
        transfer.end(outcome)
    assert words("dut", transfer) == expected


def test_long_name() -> None:
    """Of a long name of an image the beginning and the end are shown."""
    name = words("dut", Transfer("sd", "flash", "core-image-minimal-raspberrypi4-64-20261128.rootfs.wic.bz2"))
    assert name.endswith(" (core-image...tfs.wic.bz2)")


def test_secret_in_the_name_of_an_image() -> None:
    """Of a secret in a long name of an image not even its end is shown."""
    name = words("dut", Transfer("sd", "flash", "image-password=k9-x7-q2-z8-w6-v5"))
    assert name.endswith(" (image-password=***)")


def test_bar_of_jumpstarter(suite: pytest.Pytester) -> None:
    """Jumpstarter's own progress bar, which outlives a transfer that fails, is never seen; its stream works alone."""
    suite.makepyfile(
        """
        import pytest

        def test_it(dut, pytestconfig):
            with pytest.raises(ExceptionGroup):  # as with Jumpstarter
                dut.storage.flash(pytestconfig.rootpath / "image.bin", target="nothing")
        """
    )
    output = on_terminal(suite, "-s")
    assert "1 passed" in output.rstrip().splitlines()[-1]
    assert "transfer" not in output


FLASHES_LONG = """
    def test_it(dut, request):
        image = request.config.rootpath / "long.bin"
        with image.open("wb") as file:
            file.truncate(64 << 20)
        dut.flash(image, driver="slow")
"""

WAITS_LONG = """
    import time

    def test_it(dut):
        print("waits (long.bin)", flush=True)
        time.sleep(60)
"""


def freed_after(suite: pytest.Pytester, client: Client) -> tuple[float, str]:
    """Press Ctrl-C in a run; return after how many seconds the board is free, and the rest of the output."""
    with running(suite, "--jmp-selector=kind=two") as process:
        wait_for(process.stdout, "(long.bin)")
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        until(lambda: list(client.list_leases()) == [], timeout=30)
        took = time.monotonic() - began
        rest = wait_for(process.stdout, "KeyboardInterrupt")
        assert process.stdout is not None
        rest += process.stdout.read()
        assert process.wait(30) == 128 + signal.SIGINT
    return took, rest


def test_ctrl_c(slow_suite: pytest.Pytester, flashers: Lab) -> None:
    """Ctrl-C during a flash frees the board as fast as in a test that only waits; the run ends as interrupted."""
    with Client.from_config(ClientConfig.load(flashers.client_config, environ={})) as client:
        slow_suite.makepyfile(WAITS_LONG)
        waiting = min(freed_after(slow_suite, client)[0] for _ in range(2))
        slow_suite.makepyfile(FLASHES_LONG)
        found = [freed_after(slow_suite, client) for _ in range(2)]
    flashing = min(took for took, _ in found)
    print(f"freed after {flashing:.2f}s with a flash, {waiting:.2f}s without")
    assert flashing < 2 * waiting + 0.5
    for _, rest in found:
        assert "failed after" in rest
        assert "dut slow" not in rest.partition("KeyboardInterrupt")[2]

"""Beside other plugins, all installed at once, in a venv of their own: there they change how each test runs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

from pytest_jumpstarter.client.v1 import Lease

PLUGINS = {"asyncio", "embedded", "html", "jumpstarter", "playwright", "randomly", "rerunfailures", "timeout"}


@pytest.fixture
def run(suite: pytest.Pytester, neighbours: str) -> Callable[..., list[str]]:
    """Return what runs the suite there and returns the lines of its output, once it has seen all plugins loaded."""

    def run(*args: str) -> list[str]:
        # pytest-retry heeds the same mark as pytest-rerunfailures, so of the two there is one
        command = [neighbours, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:pytest-retry", *args]
        finished = subprocess.run(command, cwd=suite.path, capture_output=True, text=True, timeout=120, check=False)
        lines = finished.stdout.splitlines()
        loaded = next((line for line in lines if line.startswith("plugins: ")), "")
        assert set(re.findall(r"([a-z]+)-\d", loaded)) >= PLUGINS, lines + finished.stderr.splitlines()
        return lines

    return run


def test_devices_beside_all_of_them(
    suite: pytest.Pytester, run: Callable[..., list[str]], active_leases: Callable[[], list[Lease]]
) -> None:
    """
    Shuffled, with a timeout, reruns and a page, one board is leased once, and is our `dut`, not another plugin's.

    pytest-rerunfailures runs a test that failed again, on the same board; pytest-timeout ends one that hangs.
    """
    suite.makeconftest(
        """
        import pytest

        def pytest_jumpstarter_lease_acquired(lease):
            print("ACQUIRED", lease.exporter)

        @pytest.hookimpl(trylast=True)
        def pytest_collection_modifyitems(items):
            # the board goes back with the last test, also where that one is to run again
            items.sort(key=lambda item: item.name != "test_flaky")
        """
    )
    suite.makepyfile(
        test_plain="def test_none(): pass",
        test_devices="""
            import time, pytest

            seen = []

            @pytest.fixture(scope="module")
            def booted(dut):
                dut.power.on()
                return dut

            def test_console(dut, console):
                dut.power.cycle()
                console.expect("login:")

            @pytest.mark.parametrize("n", range(3))
            def test_many(booted, n):
                booted.power.on()

            @pytest.mark.flaky(reruns=1)
            def test_flaky(booted):
                seen.append(booted)
                assert len(seen) == 2 and seen[0] is seen[1]

            class TestClass:
                @pytest.mark.timeout(2, func_only=True)  # whoever comes first waits for the board
                def test_hangs(self, dut):
                    time.sleep(60)
        """,
    )
    lines = run("-s", "-v", "--html=page.html", "--self-contained-html")
    text = "\n".join(lines)
    assert re.search(r"= 1 failed, 6 passed, .*1 rerun in ", lines[-1]), text
    assert "Using --randomly-seed=" in text
    assert "Timeout (>2.0s) from pytest-timeout" in text
    assert re.search(r"^board-1 +7 +0 ", text, re.MULTILINE), text  # of the table: six tests, one of them twice
    assert text.count("ACQUIRED board-1") == text.count("ACQUIRED") == 1, text
    assert "board-1" in (suite.path / "page.html").read_text()
    assert active_leases() == []


def test_their_dut_where_nothing_of_ours_is_set(suite: pytest.Pytester, run: Callable[..., list[str]]) -> None:
    """`dut` of pytest-embedded is the one that counts where nothing of ours is set."""
    suite.makeini("[pytest]\n")
    suite.makepyfile("def test_it(dut): assert type(dut).__module__.startswith('pytest_embedded'), type(dut)")
    assert re.search(r"= 1 passed", (lines := run())[-1]), lines

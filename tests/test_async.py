"""Devices in asynchronous tests, by anyio's own plugin and by pytest-asyncio."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest
from runs import running, wait_for

from pytest_jumpstarter.client.v1 import Client, Lease

pytestmark = pytest.mark.usefixtures("all_plugins")

PLUGINS = {
    "anyio": """
        from pytest import fixture
        pytestmark = pytest.mark.anyio
        @fixture
        def anyio_backend(): return "asyncio"
    """,
    "asyncio": """
        from pytest_asyncio import fixture
        pytestmark = pytest.mark.asyncio
    """,
}

TESTS = """
        async def ticks_until(thing):
            ticks = 0
            async def tick():
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0.01)
            task = asyncio.create_task(tick())
            await thing
            task.cancel()
            return ticks

        @fixture
        async def booted(dut):
            assert await ticks_until(asyncio.to_thread(dut.power.cycle)) > 10
            yield dut
            dut.power.off()

        async def test_beside_a_thread_the_loop_goes_on(booted, console):
            await asyncio.to_thread(console.expect, "login:")

        async def test_a_call_works_in_the_loop_too(dut):
            dut.power.on()
            assert dut.drivers["power"] is dut.power

        async def test_waits_for_good(dut):
            print("HOLDING", flush=True)
            await asyncio.sleep(3600)

        async def test_later(dut):
            raise SystemExit("a test ran without its device")

        async def test_without():
            await asyncio.sleep(0)
"""


@pytest.mark.parametrize("plugin", PLUGINS)
def test_device_in_async_tests(
    suite: pytest.Pytester,
    client: Client,
    active_leases: Callable[[], list[Lease]],
    plugin: str,
    request: pytest.FixtureRequest,
) -> None:
    """
    Driver clients work as in any test: in the loop, which waits for them, or in a thread beside it.

    A test whose device is lost while it awaits something is ended with a device error, and the loop serves later tests.
    """
    python = sys.executable if plugin == "anyio" else request.getfixturevalue("neighbours")
    suite.makepyfile(f"        import asyncio, pytest\n{PLUGINS[plugin]}\n{TESTS}")
    with running(suite, "--jmp-ttl=5s", "-p", "no:randomly", python=python) as run:
        wait_for(run.stdout, "HOLDING")
        (lease,) = active_leases()
        client.delete_lease(lease.name)
        output = run.communicate(timeout=60)[0]
    assert re.search(r"= 3 passed, .*2 device error in ", output), output
    assert "board-1: 2 device errors" in output
    assert run.returncode == 8

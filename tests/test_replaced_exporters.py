"""Exporters that are replaced after each lease by others with new names, as those of an ExporterSet are."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from conftest import exporter_document
from faulty import FaultyLab, faulty_lab

from pytest_jumpstarter.client.exporter_sets import set_of

CONFTEST = """
import threading, time
from pathlib import Path
from pytest_jumpstarter import device_fixture
from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.lab.faults import order

first, second, third = (device_fixture(selector="kind=pool") for _ in range(3))
one, two = (device_fixture(selector="kind=other") for _ in range(2))
LAB, OTHER, COMING = Path({folder!r}), {{"pool-bcd24": "pool-zx579", "pool-zx579": "pool-bcd24"}}, []

def replace(name):
    with Client.from_config(LAB / "config/clients/default.yaml") as client:
        end = time.monotonic() + 20
        while client.get_exporter(name).status != "AVAILABLE" and time.monotonic() < end:
            time.sleep(0.02)
    order(LAB, f"remove {{name}}")
    if name in OTHER:
        COMING.append(threading.Timer(0.7, order, (LAB, f"restore {{OTHER[name]}}")))
        COMING[-1].start()

def pytest_jumpstarter_lease_released(lease):
    replace(lease.exporter)

def pytest_unconfigure():
    for each in COMING:
        each.join()
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[tuple[FaultyLab, str]]:
    """Serve a lab with two exporters of a set, and two others; yield its folder, too."""
    names = {"pool-bcd24": "pool", "pool-zx579": "pool", "bench-1": "other", "pool-bench": "pool"}
    power = "  power: {type: jumpstarter_driver_power.driver.MockPower}\n"

    def document(calls: str) -> str:
        return "---\n".join(exporter_document(name, f"kind: {kind}", power) for name, kind in names.items())

    with faulty_lab(document) as (lab, folder):
        lab.order("remove pool-bench")
        yield lab, str(folder)


@pytest.fixture
def suite(pytester: pytest.Pytester, pool: tuple[FaultyLab, str]) -> Iterator[pytest.Pytester]:
    """Return a suite whose exporters are removed after each lease, and replaced a while later."""
    lab, folder = pool
    lab.order("remove pool-zx579")
    pytester.makeini(f"[pytest]\njmp_client = {lab.config}\njmp_wait = 60s\n")
    pytester.makeconftest(CONFTEST.format(folder=folder))
    yield pytester
    for name in ("pool-bcd24", "pool-zx579", "bench-1"):
        if name not in lab.exporters():
            lab.order(f"restore {name}")


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "rpi4-virtual-7xk2q": "rpi4-virtual",
        "pool-bcd24": "pool",
        "pool-24567": "",
        "board-1": "",
        "rpi4-rack2": "",
        "bcd24": "",
    }.items(),
)
def test_names_of_a_set(name: str, expected: str) -> None:
    """Kubernetes generates five characters of a certain kind; a number, or a word, is not taken for them."""
    assert set_of(name) == expected


def test_exporter_of_a_selector_is_replaced(suite: pytest.Pytester) -> None:
    """A run that has used an exporter of a set waits for the next one; where nothing else matches, there is no wait."""
    suite.makepyfile(
        """
        def test_1(first): print("ON", first.exporter.name)
        def test_2(second): print("ON", second.exporter.name)
        def test_3(third): print("ON", third.exporter.name)
        def test_4(one): print("ON", one.exporter.name)
        def test_5(two): pass
        """
    )
    result = suite.runpytest("-s")
    result.assert_outcomes(passed=4, errors=1)
    assert re.findall("ON (.*)", result.stdout.str()) == ["pool-bcd24", "pool-zx579", "pool-bcd24", "bench-1"]
    result.stdout.fnmatch_lines(
        ["*exporter pool-bcd24 is gone; waiting for the one that replaces it", "*no exporter can serve kind=other*"]
    )


def test_exporter_of_each_is_replaced(suite: pytest.Pytester) -> None:
    """With --jmp-each, a test that runs again after a device error uses the exporter that replaces the listed one."""
    suite.makepyfile(
        """
        from conftest import replace
        def test_it(dut, jumpstarter):
            print("ON", dut.exporter.name)
            if dut.exporter.name == "pool-bcd24":
                jumpstarter.client.delete_lease(dut.lease.name)
                replace(dut.exporter.name)
            dut.power.on()
        """
    )
    result = suite.runpytest("-s", "-v", "--jmp-each=kind=pool", "--jmp-retries=1")
    result.assert_outcomes(passed=1)
    assert re.findall("ON (.*)", result.stdout.str()) == ["pool-bcd24", "pool-zx579"]
    result.stdout.fnmatch_lines(["*exporter pool-zx579 replaces pool-bcd24", "*test_it?pool-bcd24?*"])

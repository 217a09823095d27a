"""`JumpstarterTest`: a suite written for `jumpstarter-testing`, with one import changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_jumpstarter.client.v1 import Lease

WRITTEN_BEFORE = """
    import logging
    import pytest
    from pytest_jumpstarter import JumpstarterTest

    log = logging.getLogger(__name__)

    class TestResource(JumpstarterTest):
        selector = "kind=gateway"

        @pytest.fixture()
        def powered(self, client):
            client.power.on()
            yield client
            client.power.off()

        @pytest.fixture(scope="class")
        @classmethod
        def storage(cls, client):
            return client.storage

        def test_setup_device(self, client, powered, storage):
            log.info("Setting up device")
            assert powered is client
            assert storage is client.storage

        def test_power(self, client):
            client.power.on()

    class TestMore(TestResource):
        pass
"""


def test_by_lease(suite: pytest.Pytester, active_leases: Callable[[], list[Lease]]) -> None:
    """Each class is run on a board of its selector, under one lease; subclasses too, and console and options fit in."""
    suite.makeini(suite.path.joinpath("tox.ini").read_text().replace("jmp_selector = kind=dut\n", ""))
    suite.makeconftest(
        """
        def pytest_jumpstarter_lease_acquired(lease, role):
            print("ACQUIRED", role, lease.exporter)
        """
    )
    suite.makepyfile(WRITTEN_BEFORE)
    result = suite.runpytest("-s")
    result.assert_outcomes(passed=4, warnings=0)
    assert result.stdout.str().count("ACQUIRED") == 1
    result.stdout.fnmatch_lines(["*ACQUIRED dut board-2"])
    assert active_leases() == []
    result = suite.runpytest("-s", "--jmp-selector=kind=dut", "-k", "power", "--collect-only")
    result.stdout.fnmatch_lines(["*::TestResource::test_power: dut (kind=dut)"])


def test_classes_beside_other_tests(suite: pytest.Pytester) -> None:
    """The device of a class is its own business; without a selector it is the `dut` of everybody."""
    suite.makepyfile(
        """
        from pytest_jumpstarter import JumpstarterTest

        class TestOwn(JumpstarterTest):
            selector = "board=mock"

            def test_it(self, client, dut):
                assert (dut.exporter.name, dut.client) == ("board-1", client)  # the ini file's word comes first

        class TestOfEverybody(JumpstarterTest):
            def test_it(self, client, console):
                client.power.cycle()
                console.expect("login:")

        def test_function(dut):
            assert dut.exporter.name == "board-1"
        """
    )
    suite.runpytest().assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("'board=('", "*SelectorError: TestIt: selector 'board=(' *"),
        ("'board=mock2'", "no exporter can serve board=mock2 (selector of TestIt); did you mean board=mock (1)?*"),
    ],
    ids=["no selector", "nothing matches"],
)
def test_bad_selector(suite: pytest.Pytester, selector: str, message: str) -> None:
    """An error names the class whose selector it is."""
    suite.makeini(suite.path.joinpath("tox.ini").read_text().replace("jmp_selector = kind=dut\n", ""))
    suite.makepyfile(
        f"""
        from pytest_jumpstarter import JumpstarterTest

        class TestIt(JumpstarterTest):
            selector = {selector}

            def test_it(self, client): pass
        """
    )
    result = suite.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])

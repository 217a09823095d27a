"""Roles: what fixtures, markers and parameters say about the devices of a test, and what a test gets by it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_jumpstarter.client.v1 import Lease
from pytest_jumpstarter.devices_of import ExporterName, Needs, needs_of, wanted_of
from pytest_jumpstarter.roles import roles_of

ActiveLeases = Callable[[], list[Lease]]

CONFTEST = """
    import pytest
    from pytest_jumpstarter import device_fixture

    gateway = device_fixture(selector="kind=gateway", requires=["power"])
    bare = device_fixture()

    @pytest.fixture
    def booted(dut):
        return dut
"""


def collect(pytester: pytest.Pytester, source: str, *args: str) -> dict[str, pytest.Item]:
    """Return the tests of a suite by their names."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(source)
    items, _ = pytester.inline_genitems(*args)
    return {item.name: item for item in items}


def test_roles_of_a_test(pytester: pytest.Pytester) -> None:
    """A test has the roles that it or its fixtures ask for, in the words of the definition that counts for it."""
    items = collect(
        pytester,
        """
        import pytest

        class TestWrapped:
            @pytest.fixture
            def gateway(self, gateway): return gateway
            def test_wrapped(self, gateway): pass
        class TestFake:
            @pytest.fixture
            def gateway(self): return object()
            def test_fake(self, gateway): pass
        def test_through(booted, gateway): pass
        def test_none(tmp_path): pass
        """,
        "--jmp-selector=board=x",
    )
    roles = {name: {role: wish.selector for role, wish in roles_of(item).items()} for name, item in items.items()}
    assert roles == {
        "test_wrapped": {"gateway": "kind=gateway"},
        "test_fake": {},
        "test_through": {"dut": None, "gateway": "kind=gateway"},
        "test_none": {},
    }


def test_wanted_devices(pytester: pytest.Pytester) -> None:
    """A setting beats the fixture, a parameter beats the setting, and the source says which it was."""
    items = collect(
        pytester,
        """
        import pytest
        from pytest_jumpstarter.devices_of import ExporterName

        def test_fixture(gateway): pass
        def test_setting(dut): pass
        @pytest.mark.parametrize("dut", ["board=b"], indirect=True)
        def test_parameter(dut): pass
        @pytest.mark.parametrize("gateway", [ExporterName("gw-1")], indirect=True, ids=["gw-1"])
        def test_name(gateway): pass
        """,
        "--jmp-selector=board=a",
        "--jmp-wait=5s",
    )
    found = [wanted_of(item, role, wish) for item in items.values() for role, wish in roles_of(item).items()]
    assert [(wanted.selector, wanted.exporter, wanted.source) for wanted in found] == [
        ("kind=gateway", None, "device_fixture of gateway"),
        ("board=a", None, "--jmp-selector"),
        ("board=b", None, "--jmp-selector, parameter of dut"),
        ("kind=gateway", "gw-1", "device_fixture of gateway, parameter of gateway"),
    ]
    assert {wanted.wait for wanted in found} == {5.0}
    assert ExporterName("gw-1") == "gw-1"


def test_markers_add_up(pytester: pytest.Pytester) -> None:
    """Markers of module, class and function are merged, outermost first, for the role that each names."""
    items = collect(
        pytester,
        """
        import pytest
        mark = pytest.mark.jumpstarter
        pytestmark = mark(requires="storage", labels="gateway:can=true")
        @mark(requires=["console"])
        class TestIt:
            @mark(requires=["gateway:console"], labels="site=here")
            def test_both(self, dut, gateway): pass
            def test_only(self, bare): pass
        def test_none(): pass
        """,
        "--jmp-selector=board=x",
    )
    assert needs_of(items["test_both"], roles_of(items["test_both"])) == {
        "dut": Needs(requires=("storage", "console"), labels=("site=here",)),
        "gateway": Needs(requires=("power", "console"), labels=("can=true",)),
    }
    assert needs_of(items["test_only"], roles_of(items["test_only"])) == {
        "bare": Needs(requires=("storage", "console"))
    }
    assert needs_of(items["test_none"], roles_of(items["test_none"])) == {}


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("'console'", "the only arguments are requires=[[]DRIVER, …], labels=SELECTOR and spoils=True|False"),
        ("needs=['console']", "the only arguments are requires=[[]DRIVER, …], labels=SELECTOR and spoils=True|False"),
        ("labels='a b'", "selector 'a b' does not parse: ',' expected before 'b'"),
        ("requires=['a..b']", "'a..b' is not the name or dotted path of a driver"),
        ("spoils='no'", "spoils is True or False, not 'no'"),
        ("requires=['gatway:power']", "no device fixture is named 'gatway' (in requires='gatway:power')"),
    ],
)
def test_bad_marker(pytester: pytest.Pytester, marker: str, message: str) -> None:
    """A marker that makes no sense ends the run before it begins, and names the test."""
    pytester.makepyfile(test_it=f"import pytest\n@pytest.mark.jumpstarter({marker})\ndef test_it(dut): pass\n")
    result = pytester.runpytest("--strict-markers")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: @pytest.mark.jumpstarter of test_it.py::test_it: {message}"])


def test_lacking_device_skips(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """A test whose device lacks a driver or label is skipped at its own line; others keep the same device."""
    suite.makeconftest(
        """
        from pytest_jumpstarter import device_fixture
        mock = device_fixture(selector="board=mock", requires=["console"])
        """
    )
    suite.makepyfile(
        test_it="""
        import pytest
        mark = pytest.mark.jumpstarter
        names = []
        @mark(requires=["can"], labels=["site=there,kind=dut"])
        def test_first(dut, console): pass
        @mark(requires=["console", "board.power"], labels="site=here")
        def test_has(dut, console, jumpstarter): names.append(dut.lease.name)
        @mark(labels="!site")
        def test_later(dut): pass
        @mark(requires=["cosnole"])
        def test_typo(dut): pass
        def test_same(dut): assert names == [dut.lease.name]
        def test_fixture(mock): pass
        """
    )
    result = suite.runpytest("-rs")
    result.assert_outcomes(passed=2, skipped=4)
    result.stdout.fnmatch_lines_random(
        [
            "SKIPPED [[]1[]] *: dut (board-1) lacks what the test needs: no driver 'cosnole' "
            "(did you mean 'console'[?])",
            "SKIPPED [[]1[]] test_it.py:4: dut (board-1) lacks what the test needs: no driver 'can', "
            "its labels do not match site=there",
            "SKIPPED [[]1[]] test_it.py:8: dut (board-1) lacks what the test needs: its labels do not match !site",
            "SKIPPED [[]1[]] test_it.py:13: mock (mock-1) lacks what the test needs: no driver 'console'",
        ]
    )
    assert active_leases() == []


def test_indirect_parameter(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """A parameter passed to a device fixture is the selector of its device."""
    suite.makepyfile(
        """
        import pytest
        @pytest.mark.parametrize("dut", ["kind=dut", "kind=gateway"], indirect=True)
        def test_it(dut, request):
            assert dut.exporter.name == {"kind=dut": "board-1", "kind=gateway": "board-2"}[request.node.callspec.id]
        @pytest.mark.parametrize("dut", [3], indirect=True)
        def test_nonsense(dut): pass
        """
    )
    result = suite.runpytest()
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["the parameter of 'dut' must be a label selector, not 3"])
    assert active_leases() == []

"""Tracebacks and warnings of a suite point to its own lines, not to frames of this plugin."""

from __future__ import annotations

import pytest

import pytest_jumpstarter


def test_errors_of_fixtures_show_no_frame_of_ours(suite: pytest.Pytester) -> None:
    """Whether a setup, a call or a teardown fails, with a cause or without, with a device or after one."""
    suite.makeconftest(
        """
        import pytest

        def fail():
            raise KeyError("inside")

        @pytest.fixture
        def broken():
            fail()

        @pytest.fixture
        def caused(dut):
            try:
                fail()
            except KeyError as exc:
                raise RuntimeError("outside") from exc

        @pytest.fixture(scope="module")
        def inner(request, dut):
            fail()

        @pytest.fixture(scope="module")
        def outer(request, dut):
            try:
                request.getfixturevalue("inner")
            except KeyError as exc:
                raise RuntimeError("outside") from exc

        @pytest.fixture
        def late():
            yield
            fail()
        """
    )
    names = ("dut", "broken", "caused", "outer", "late")
    suite.makepyfile("\n".join(f"def test_{name}({name}): pass" for name in names))
    result = suite.runpytest("--jmp-order=off")
    result.assert_outcomes(passed=2, errors=4)
    assert [line for line in result.outlines if str(pytest_jumpstarter.__path__[0]) in line] == []


@pytest.mark.skipif(pytest.version_tuple < (9, 1), reason="this pytest does not warn of it")
@pytest.mark.parametrize("is_error", [False, True], ids=["warning", "error"])
def test_a_lookup_in_a_teardown(suite: pytest.Pytester, is_error: bool) -> None:
    """A warning of pytest of a fixture that is looked up in a teardown has the line of the suite."""
    suite.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="module")
        def other(): pass

        @pytest.fixture(scope="module")
        def late(request, dut):
            yield
            request.getfixturevalue("other")

        def test_a(late): pass
        def test_b(late, other): pass
        """
    )
    result = suite.runpytest(*(["-Werror::DeprecationWarning"] if is_error else []))
    lines = ["*test_a_lookup_in_a_teardown.py:9: *PytestRemovedIn10Warning: Calling request.getfixturevalue*"]
    result.stdout.fnmatch_lines([">  *request.getfixturevalue(?other?)"] if is_error else lines)
    result.stdout.no_fnmatch_line(f"*{pytest_jumpstarter.__path__[0]}*")

"""Ways in which a test swallows the loss of its board, and what may stand around them, as modules of inner suites."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import dedent, indent

HEAD = """
import asyncio, contextlib, logging, sys, threading, time, unittest, warnings
from concurrent.futures import ThreadPoolExecutor
import pexpect, pytest
from pytest_jumpstarter.errors import DeviceError
from harm import kill_in_a_call, lose, lose_once, sleep_through, touch, transfer_away

class Forgiving:
    def __enter__(self):
        return self
    def __exit__(self, *_):
        return True
"""

# Bodies that find the lease of `dut` deleted by somebody else, and end as if nothing had happened.
PASSING = {
    "raises": """
        with pytest.raises(Exception):
            touch(dut)
    """,
    "except": """
        try:
            touch(dut)
        except Exception:
            pass
    """,
    "suppress": """
        with contextlib.suppress(Exception):
            touch(dut)
    """,
    "thread": """
        def work():
            with contextlib.suppress(Exception):
                touch(dut)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    """,
    "finally return": """
        def met():
            try:
                touch(dut)
            finally:
                return
        met()
    """,
    "poll loop": """
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            try:
                dut.power.on()
            except Exception:
                time.sleep(0.01)
    """,
    "expect": """
        dut.console().expect(["never", pexpect.TIMEOUT, pexpect.EOF], timeout=20)
    """,
    "retry loop": """
        for _ in range(3):
            try:
                touch(dut)
            except Exception:
                continue
    """,
    "future": """
        with ThreadPoolExecutor() as pool:
            failure = pool.submit(touch, dut).exception()
        failure.__traceback__ = None
    """,
    "warning": """
        try:
            touch(dut)
        except Exception as exc:
            warnings.warn(f"no answer: {exc}")
    """,
}
MORE_PASSING = {
    "caught warning": """
        with warnings.catch_warnings(record=True):
            try:
                touch(dut)
            except Exception as exc:
                warnings.warn(str(exc))
    """,
    "except base": """
        try:
            touch(dut)
        except BaseException:
            pass
    """,
    "except group": """
        try:
            touch(dut)
        except* Exception:
            pass
    """,
    "context manager": """
        with Forgiving():
            touch(dut)
    """,
    "assert raises": """
        with unittest.TestCase().assertRaises(Exception):
            touch(dut)
    """,
    "log": """
        try:
            touch(dut)
        except Exception:
            logging.exception("no answer")
    """,
    "our own error": """
        with pytest.raises(DeviceError):
            while True:
                try:
                    dut.power.on()
                except DeviceError:
                    raise
                except Exception:
                    time.sleep(0.02)
    """,
    "killed": """
        with pytest.raises(Exception):
            kill_in_a_call(dut)
    """,
    "transferred": """
        with pytest.raises(Exception):
            transfer_away(dut)
    """,
}
# Bodies that end the test in another way, whatever stands around them.
ENDING = {
    "not": """
        touch(dut)
    """,
    "skip": """
        try:
            touch(dut)
        except Exception:
            pytest.skip("QUOTED")
    """,
    "importorskip": """
        with contextlib.suppress(Exception):
            touch(dut)
        pytest.importorskip("no_such_module_anywhere")
    """,
    "imperative xfail": """
        try:
            touch(dut)
        except Exception:
            pytest.xfail("QUOTED")
    """,
    "fail": """
        try:
            touch(dut)
        except Exception:
            pytest.fail("QUOTED")
    """,
    "another error": """
        try:
            touch(dut)
        except Exception:
            raise ValueError("QUOTED") from None
    """,
    "exit": """
        try:
            touch(dut)
        except Exception:
            sys.exit("QUOTED")
    """,
}
ALREADY_LOST = {"killed", "transferred"}
"""Ways that lose the board themselves."""

ASSERT = 'assert dut is None, "QUOTED"'
FRAMES = {
    "plain": """
        def test_NAME(dut):
            BODY
    """,
    "assertion": f"""
        def test_NAME(dut):
            BODY
            {ASSERT}
    """,
    "xfail": f"""
        @pytest.mark.xfail(reason="product bug")
        def test_NAME(dut):
            BODY
            {ASSERT}
    """,
    "strict": """
        @pytest.mark.xfail(reason="product bug", strict=True)
        def test_NAME(dut):
            BODY
    """,
    "xfail_raises": f"""
        @pytest.mark.xfail(raises=AssertionError)
        def test_NAME(dut):
            BODY
            {ASSERT}
    """,
    "subtests": """
        def test_NAME(dut, subtests):
            with subtests.test("board"):
                BODY
            with subtests.test("other"):
                pass
    """,
    "coroutine": """
        @pytest.mark.anyio
        async def test_NAME(dut):
            BODY
    """,
    "unittest": """
        class TestNAME(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _board(self, dut):
                self.dut = dut
            def test_NAME(self):
                dut = self.dut
                BODY
    """,
    "any_error": """
        @pytest.mark.xfail(raises=Exception)
        def test_NAME(dut):
            BODY
    """,
    "marked_late": f"""
        def test_NAME(dut, request):
            request.node.add_marker(pytest.mark.xfail(reason="product bug"))
            BODY
            {ASSERT}
    """,
    "expected_failure": f"""
        class TestNAME(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _board(self, dut):
                self.dut = dut
            @unittest.expectedFailure
            def test_NAME(self):
                dut = self.dut
                BODY
                {ASSERT}
    """,
    "unittest_subtests": """
        class TestNAME(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _board(self, dut):
                self.dut = dut
            def test_NAME(self):
                dut = self.dut
                with self.subTest("board"):
                    BODY
    """,
}
QUOTING = {"assertion", "xfail", "xfail_raises", "marked_late"}
"""Frames whose test fails by an assertion that follows from the loss."""

BODIES = PASSING | MORE_PASSING | ENDING
ANYIO = """
@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def suite(cases: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return a module for each frame, with a test for each way that swallows a loss in it."""
    files: dict[str, str] = {}
    for frame, way in cases:
        files.setdefault(f"test_{frame}.py", HEAD + (ANYIO if frame == "coroutine" else ""))
        files[f"test_{frame}.py"] += _test(frame, way)
    return files


def id_of(frame: str, way: str) -> str:
    """Return the id of the test that swallows a loss in a way."""
    name = way.replace(" ", "_")
    owner = f"Test{name}::" if "class TestNAME" in FRAMES[frame] else ""
    return f"test_{frame}.py::{owner}test_{name}"


def _test(frame: str, way: str) -> str:
    lines = dedent(FRAMES[frame]).replace("NAME", way.replace(" ", "_")).split("\n")
    opened = "dut.console()\n" if way == "expect" else ""
    lost = "" if way in ALREADY_LOST else "lose(dut)\n"
    body = opened + lost + dedent(BODIES[way]).strip("\n")
    return "\n".join(indent(body, line[: -len("BODY")]) if line.strip() == "BODY" else line for line in lines)

"""What is the product's own stays so, beside a break that healed too: no verdict is taken from a test that is right."""

from __future__ import annotations

import re

import pytest

from .inner import DEVICE_ERROR, Bench, Seen, assert_device_error, assert_nothing_of_a_board

HEAD = """
import asyncio, concurrent.futures, contextlib, socket, threading, unittest
import anyio, grpc, pexpect, pydantic, pytest
from pytest_jumpstarter.errors import DeviceUnreachable
from harm import broken_call, cut, heal, lose_in_a_call
"""

# The word after `test_` says how each test ends.
AFTER_A_BREAK = """
@pytest.fixture
def broken(dut):
    \"""A board whose connection broke under a call, and works again.\"""
    broken_call(dut)
    heal(dut)
    return dut

@pytest.fixture
def dead():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()

def test_failed_assertion(dut):
    broken_call(dut)
    assert dut is None

def test_failed_assertion_when_healed(broken):
    assert broken is None

def test_failed_fail(broken):
    pytest.fail("the product says no")

def test_failed_own_timeout_at_once(dut):
    broken_call(dut)
    raise TimeoutError("the product's own interface did not answer")

def test_failed_own_timeout(broken):
    raise TimeoutError("the product's own interface did not answer")

def test_failed_own_timeout_of_a_loop(broken):
    asyncio.run(asyncio.wait_for(asyncio.sleep(60), 0.01))

def test_failed_own_grpc_service(broken, dead):
    with grpc.insecure_channel("%s:%s" % dead) as channel:
        channel.unary_unary("/product.Service/Call")(b"", timeout=1)

def test_failed_own_connection(broken, dead):
    socket.create_connection(dead, timeout=1)

def test_failed_own_process_times_out(broken):
    pexpect.spawn("cat").expect("never", timeout=0.1)

def test_failed_own_process_ends(broken):
    pexpect.spawn("true").expect("never", timeout=10)

def test_failed_own_cancelled_future(broken):
    future = concurrent.futures.Future()
    future.cancel()
    future.result()

def test_failed_own_stream(broken):
    raise anyio.EndOfStream

def test_failed_own_model(broken):
    pydantic.TypeAdapter(int).validate_python("no number")

def test_failed_driver_refuses(broken):
    broken.power.call("no_such_method")

def test_failed_console_is_silent(broken):
    broken.console().expect("never", timeout=0.3)

def test_failed_group(dut):
    raise ExceptionGroup("soft assertions", [AssertionError("2 != 3"), broken_call(dut)])

def test_failed_group_with_own_timeout(broken):
    raise ExceptionGroup("soft assertions", [AssertionError("2 != 3"), TimeoutError("x")])

def test_failed_group_with_an_error_of_ours(broken):
    raise ExceptionGroup("soft assertions", [AssertionError("2 != 3"), DeviceUnreachable("for a moment")])

def test_failed_nested_group(dut):
    group = ExceptionGroup("inner", [AssertionError("2 != 3")])
    raise ExceptionGroup("outer", [broken_call(dut), group])

@pytest.mark.xfail(strict=True)
def test_failed_unexpected_pass(broken): pass

class TestUnit(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _board(self, broken): pass
    def test_failed_in_unittest(self):
        self.fail("the product says no")

def test_passed_retry_works(dut):
    broken_call(dut)
    heal(dut)
    dut.power.on()

def test_passed_raises(dut):
    with pytest.raises(Exception):
        raise broken_call(dut)

def test_passed_retry_loop(dut):
    for number in range(3):
        try:
            if number < 2:
                raise broken_call(dut)
            dut.power.on()
        except Exception:
            continue
        break

def test_passed_break_in_a_thread(dut):
    thread = threading.Thread(target=broken_call, args=[dut])
    thread.start()
    thread.join()
    heal(dut)

def test_passed_console_is_opened_anew(dut):
    old = dut.console()
    dut.power.cycle(wait=0)
    old.expect("login: ")
    cut()
    assert old.expect(["never", pexpect.EOF], timeout=20) == 1
    heal(dut)
    new = dut.console()
    new.sendline("root")
    new.expect("# ")

@pytest.fixture
def breaks_in_teardown(dut):
    yield
    broken_call(dut)

def test_passed_break_in_teardown(breaks_in_teardown): pass

def test_passed_refusal(dut):
    with pytest.raises(Exception):
        dut.power.call("no_such_method")

def test_passed_silence(dut):
    assert dut.console().expect(["never", pexpect.TIMEOUT, pexpect.EOF], timeout=0.3) == 1

@pytest.mark.xfail
def test_xfailed_assertion(broken):
    assert broken is None

@pytest.mark.xfail(raises=TimeoutError)
def test_xfailed_own_timeout(broken):
    raise TimeoutError("the product's own interface did not answer")

def test_skipped_after_a_break(dut):
    broken_call(dut)
    pytest.skip("no need of it")

def test_errored_device_error_that_is_raised(dut):
    raise broken_call(dut)

def test_errored_device_error_that_is_raised_late(dut):
    error = broken_call(dut)
    heal(dut)
    raise error

def test_errored_device_error_of_the_last_attempt(dut):
    for _ in range(2):
        error = broken_call(dut)
        heal(dut)
    raise error

def test_errored_console(dut):
    console = dut.console()
    cut()
    console.expect("never", timeout=20)

def test_failed_in_the_next_test():
    raise TimeoutError("no board here at all")
"""
ENDS = {"failed": "failed", "passed": "passed", "xfailed": "xfailed", "skipped": "skipped", "errored": DEVICE_ERROR}


def cases_of(source: str) -> dict[str, str]:
    """Return the id of each test of a module, with the outcome that its name says."""
    found = {}
    for owner, name, word in re.findall(r"^(?:class (Test\w+)|(?:    )?def (test_([a-z]+)\w*))", source, re.MULTILINE):
        if not owner:
            place = "TestUnit::" if name.endswith("in_unittest") else ""
            found[f"test_it.py::{place}{name}"] = ENDS[word]
    return found


@pytest.fixture(scope="module")
def after_a_break(bench: Bench) -> Seen:
    """Run tests under which the connection breaks, and heals."""
    return bench.run({"test_it.py": HEAD + AFTER_A_BREAK})


@pytest.mark.parametrize(("test", "end"), cases_of(AFTER_A_BREAK).items(), ids=lambda word: word.rpartition("::")[2])
def test_after_a_break(after_a_break: Seen, test: str, end: str) -> None:
    """A break that healed counts only for the call that met it, and only where that call's error ends the test."""
    record = after_a_break.record(test)
    assert record["outcome"] == end, record["reason"]
    if end == DEVICE_ERROR:
        assert_device_error(after_a_break, test)
    else:
        assert record["device_error"] is None


def test_one_lease_for_all(after_a_break: Seen) -> None:
    """No break that healed costs the lease, and no run with a test failure exits as if the lab alone had failed."""
    assert len({device["lease"] for each in after_a_break.run["tests"] for device in each["devices"]}) == 1
    assert after_a_break.code == pytest.ExitCode.TESTS_FAILED
    assert_nothing_of_a_board(after_a_break, "test_it.py::test_failed_in_the_next_test")


LOST = """
def test_errored_group(dut):
    try:
        lose_in_a_call(dut)
    except Exception as exc:
        raise ExceptionGroup("soft assertions", [AssertionError("QUOTED"), exc])

def test_errored_own_timeout(dut):
    with contextlib.suppress(Exception):
        lose_in_a_call(dut)
    raise TimeoutError("QUOTED")

def test_errored_healed_then_lost(dut):
    broken_call(dut)
    heal(dut)
    with contextlib.suppress(Exception):
        lose_in_a_call(dut)
    assert dut is None, "QUOTED"
"""


def test_loss_outweighs_all(bench: Bench) -> None:
    """A board that is lost for good makes a device error of an own timeout, a group and an assertion, and quotes it."""
    seen = bench.run({"test_it.py": HEAD + LOST}, "--jmp-scope=function")
    for test in cases_of(LOST):
        assert_device_error(seen, test)
        assert "QUOTED" in seen.words_of(test)


SUBTESTS = """
def test_it(dut, subtests):
    with subtests.test("break"):
        broken_call(dut)
    with subtests.test("product"):
        assert dut is None
    with subtests.test("own timeout"):
        raise TimeoutError("the product's own interface did not answer")
"""


@pytest.mark.skipif(pytest.version_tuple < (9, 0), reason="pytest has no subtests before 9")
def test_subtests_after_a_break(bench: Bench) -> None:
    """What fails in subtests beside a healed break is the product's."""
    seen = bench.run({"test_it.py": HEAD + SUBTESTS})
    assert seen.code == pytest.ExitCode.TESTS_FAILED
    assert DEVICE_ERROR not in seen.counts
    assert seen.outcome("test_it.py::test_it") == "failed"

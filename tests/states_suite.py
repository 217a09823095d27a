"""A suite with board states on the virtual board, one module for each rule; it notes what its transitions do."""

from __future__ import annotations

CONFTEST = '''
import os
import pytest
from pathlib import Path
from pytest_jumpstarter import PlainShell, board_state, device_fixture

NOTES = Path(__file__).parent / "notes"
BROKEN = os.environ.get("BROKEN")
dut = device_fixture(selector="kind=dut")
gateway = device_fixture(selector="kind=gateway")

def note(words):
    with NOTES.open("a") as file:
        file.write(f"{words}\\n")

def pytest_runtest_logstart(nodeid):
    note(f"[{nodeid.rpartition('::')[2]}]")

@pytest.fixture(scope="session")
def user():
    return "root"

@board_state
def off(dut):
    """No power."""
    note(f"{dut.role}: {dut.state.current} -> off")
    dut.power.off()
    yield
    note(f"{dut.role}: off ends")

@board_state(after=off, tries=2)
def login(dut):
    """At the login prompt."""
    note(f"{dut.role}: {dut.state.current} -> login")
    dut.console().discard()
    dut.power.on()
    if BROKEN == "login":
        dut.console().expect("never said", timeout=0.1)
    dut.console().expect("login: ")
    yield dut.console()
    note(f"{dut.role}: login ends")

@board_state(after=login)
def shell(dut, user):
    """Logged in."""
    note(f"{dut.role}: {dut.state.current} -> shell")
    if BROKEN == "shell":
        dut.console().expect("never said", timeout=0.1)
    if dut.state.current == "login":
        dut.console().sendline(user)
        dut.console().expect_exact("board:~# ")
    yield PlainShell(dut.console(), prompt="board:~# ")
    note(f"{dut.role}: shell ends")

gateway_shell = shell.of("gateway")

@pytest.fixture(scope="module")
def led(shell):
    shell.run("led on")
    note("led on")
    yield
    shell.run("led off")
    note("led off")
'''

HEAD = "import pytest\nfrom conftest import note\n"

MODULES = {
    "test_01_value": """
        def test_value(shell): assert shell.run("version").stdout == "1.0.0"
        def test_again(shell): assert shell.run("version").stdout == "1.0.0"
    """,
    "test_02_over": """
        def test_led(shell, led): assert shell.run("led").stdout == "led is on"
        def test_left(login): login.send("x")
        def test_led_again(shell, led): assert shell.run("led").stdout == "led is on"
    """,
    "test_03_failures": """
        import unittest
        def test_fails(shell): assert 0
        def test_after_failure(shell): shell.run("version")
        @pytest.mark.xfail
        def test_xfails(shell): assert 0
        def test_after_xfail(shell): pass
        @pytest.fixture
        def breaks(shell):
            yield
            raise RuntimeError("in the teardown")
        def test_teardown_fails(breaks): pass
        def test_after_teardown(shell): pass
        @pytest.fixture
        def never(shell): raise RuntimeError("in the setup")
        def test_setup_fails(never): pass
        def test_after_setup(shell): pass
        def test_skips(shell): pytest.skip("no reason")
        def test_after_skip(shell): pass
        @pytest.mark.usefixtures("shell")
        class TestUnit(unittest.TestCase):
            def test_1_unit_fails(self): self.fail("on purpose")
            def test_2_after_unit(self): pass
    """,
    "test_04_spoils": """
        @pytest.mark.jumpstarter(spoils=True)
        def test_marked(shell): pass
        def test_after_mark(shell): pass
        def test_says(dut, shell):
            dut.state.spoil("a kernel module was loaded")
            assert dut.state.current is None
        def test_after_saying(shell): pass
        def test_keeps(dut, shell):
            dut.state.keep()
            assert 0
        def test_after_keeping(shell): pass
        @pytest.mark.jumpstarter(spoils=False)
        def test_mark_keeps(shell): assert 0
        def test_after_kept(shell): pass
        def test_keeps_for_itself_only(shell): assert 0
        def test_anew(shell): pass
        def test_forgets(dut, shell): dut.state.forget()
        def test_after_forgetting(shell): pass
    """,
    "test_05_device_alone": """
        def test_stands(shell): pass
        @pytest.mark.jumpstarter(spoils=False)
        def test_looks(dut): assert dut.state.current == "shell"
        def test_still_stands(shell): pass
        def test_uses(dut): dut.power.off()
        def test_reached_anew(shell): shell.run("version")
    """,
    "test_06_by_name": """
        @pytest.fixture(scope="module")
        def by_name(request):
            yield request.getfixturevalue("shell")
            note("by_name ends")
        @pytest.fixture(scope="module")
        def over(by_name):
            yield
            note("over ends")
        def test_at_login(login): pass
        def test_over(over): pass
        def test_leaves(login): pass
        def test_asks(request): request.getfixturevalue("shell").run("version")
        def test_refused(login, request):
            with pytest.raises(Exception, match="test_refused stands on 'login' already, so it cannot request 'shell'"):
                request.getfixturevalue("shell")
        def test_not_kept(shell): shell.run("version")
    """,
    "test_07_conflict": """
        def test_two(login, shell): pass
        def test_one(shell): shell.run("version")
    """,
    "test_08_scope": """
        from pytest_jumpstarter import board_state
        from conftest import off
        @board_state(after=off, scope="function")
        def fresh(dut):
            note("fresh boot")
            dut.console().discard()
            dut.power.on()
            dut.console().expect("login: ")
        @board_state(after=off, params=["red", "blue"])
        def painted(dut, request):
            note(f"painted {request.param}")
            return request.param
        def test_fresh(fresh): pass
        def test_fresh_again(fresh): pass
        def test_painted(painted): assert painted in ("red", "blue")
        def test_off(off): pass
    """,
    "test_09_end_fails": """
        @pytest.fixture(scope="module")
        def bad(shell):
            yield
            raise RuntimeError("the teardown over a state")
        @pytest.fixture(scope="module")
        def asks_the_dead(dut, shell):
            yield
            dut.console().expect("an answer of the dead", timeout=0.1)
        def test_first(shell, bad): pass
        def test_next(off): pass
        def test_kills(shell, asks_the_dead): assert 0
        def test_innocent(off): pass
        def test_end(shell): shell.run("version")
    """,
    "test_10_walks": """
        def test_walks(dut):
            dut.state.reach("off")
            assert dut.state.reach("shell").run("version").stdout == "1.0.0"
            assert dut.state.current == "shell"
            dut.state.reach("login")
            note("walked")
        def test_typo(dut):
            with pytest.raises(Exception, match=r"has no state 'shel'; it has off, .*shell.*did you mean 'shell'"):
                dut.state.reach("shel")
        def test_stands(shell, dut):
            with pytest.raises(Exception, match="test_stands stands on 'shell', so it cannot reach 'off'"):
                dut.state.reach("off")
            with pytest.raises(AttributeError, match="the board state of dut .board-1. has no attribute 'on'"):
                dut.state.on()
    """,
    "test_11_skips": """
        def test_on_shell(shell): pass
        @pytest.mark.skip
        def test_skipped(off): pass
        @pytest.mark.skipif(True, reason="no")
        def test_skipped_too(off): pass
        def test_on_shell_still(shell): pass
    """,
    "test_12_roles": """
        def test_both(shell, gateway_shell, gateway):
            assert shell.run("version").stdout == gateway_shell.run("version").stdout == "1.0.0"
            assert gateway.state.current == "shell"
        def test_one(shell): pass
        def test_gateway_fails(gateway_shell): assert 0
        def test_other(shell): pass
    """,
    "test_13_override": """
        @pytest.fixture
        def shell(shell):
            note("shell, overridden")
            return shell
        def test_overridden(shell): shell.run("version")
    """,
    "test_14_broken": """
        from pytest_jumpstarter import board_state
        from conftest import off
        @board_state(after=off, tries=3)
        def wall(dut):
            note("wall")
            dut.console().expect("never said", timeout=0.05)
        @board_state(after=wall)
        def beyond(dut): note("beyond")
        @board_state(after=(wall, off))
        def around(dut): note("around")
        @board_state
        def silent(dut):
            if not dut: yield
        def test_beyond(beyond): pass
        def test_wall(wall): pass
        def test_around(around): pass
        def test_forgets(dut): dut.state.forget()
        def test_tried_again(wall): pass
        def test_silent(silent): pass
    """,
    "test_16_flash": """
        from pytest_jumpstarter import board_state
        from conftest import off
        @pytest.fixture(scope="session")
        def image(tmp_path_factory):
            file = tmp_path_factory.mktemp("image") / "image"
            file.write_text("1.0.0\\n")  # what is there: other tests have the same board
            return file
        @board_state(after=off)
        def updated(dut, image):
            note("updated")
            dut.flash(image, force=True)
        def test_flashes(shell, dut, image):
            dut.flash(image)
            assert dut.state.current is None
        def test_after_flash(shell): assert shell.run("version").stdout == "1.0.0"
        def test_updated(updated): pass
        def test_updated_still(updated): pass
    """,
    "test_17_outcomes": """
        import time
        from pytest_jumpstarter import board_state
        from conftest import off
        @board_state(after=off, tries=2)
        def refused(dut):
            note("refused")
            pytest.fail("no prompt " + 280 * "." + " eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ0In0.c2lnbmF0dXJlMQ")
        @board_state(after=off, tries=2)
        def slow(dut):
            note("slow")
            time.sleep(30)
        @board_state
        def wrong_end(dut):
            yield
            pytest.fail("it ends badly")
        @pytest.fixture
        def fails_late(shell):
            yield
            pytest.fail("in the teardown")
        @pytest.fixture(scope="module")
        def fails_too(shell):
            yield
            raise RuntimeError("the error of another teardown")
        @pytest.fixture
        def fails(fails_too):
            yield
            raise RuntimeError("the error of one teardown")
        def test_calls_fail(refused): pass
        def test_calls_fail_again(refused): pass
        @pytest.mark.timeout(0.5)
        def test_out_of_time(slow): pass
        def test_walk_ends_badly(dut): dut.state.reach("wrong_end")
        def test_after_walk(dut): pass
        def test_fails_late(fails_late): pass
        def test_after_failing_late(shell): pass
        def test_fails_twice(fails): pass
        def test_after_failing_twice(off): pass
    """,
    "test_18_values": """
        from pytest_jumpstarter import board_state
        from conftest import off
        runs = []
        @pytest.fixture(scope="session", params=["6.1", "6.6"])
        def version(request): return request.param
        @pytest.fixture(scope="session", params=["6.1", "6.6"])
        def release(request): return request.param
        def of(version): return pytest.mark.parametrize("version", [version], indirect=True, scope="session")
        @board_state(after=off)
        def kernel(dut, version):
            note(f"kernel {version}")
            runs[:] = [version]
        @board_state(after=kernel)
        def app(dut): note("app")
        @board_state(after=off)
        def picky(dut, release): assert release == "6.6"
        @board_state(after=off, params=["red", "blue"])
        def choosy(dut, request): assert request.param == "blue"
        @of("6.1")
        def test_old_kernel(kernel): assert runs == ["6.1"]
        @of("6.6")
        def test_new_app(app): assert runs == ["6.6"]
        @of("6.6")
        def test_new_kernel(kernel): assert runs == ["6.6"]
        @of("6.6")
        def test_same_app(app): assert runs == ["6.6"]
        def test_picky(picky): pass
        def test_choosy(choosy): pass
    """,
    "test_15_subtests": """
        def test_sub(shell, subtests):
            for number in range(3):
                with subtests.test(number=number):
                    assert number != 1
        def test_after_sub(shell): pass
    """,
}

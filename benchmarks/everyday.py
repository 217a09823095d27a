"""
A suite as users have it, as a whole run: ours beside `jumpstarter-testing` with helpers that a suite writes itself.

30 tests stand on three states of a virtual board (off, at the login prompt, logged in), in mixed order, after one
flash. Ours names the state that a test needs. The other side has one lease for its one class, and its helpers bring
the board to the state of each test: *anew*, which is right whatever the test before did; or only if the last helper
left it elsewhere (*trusting*), which is wrong after a test that failed.

    python benchmarks/everyday.py [--image-mib 64] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # run as a script

from benchmarks.bench import Bench, write_image
from benchmarks.suites import MENDED, PLUGIN, Suite

BOARD = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {name: everyday, labels: {board: everyday}}
export:
  board: {type: pytest_jumpstarter.lab.board.VirtualBoard}
  power: {ref: board.power}
  console: {ref: board.console}
  storage: {ref: board.storage}
"""
STATES = ("shell", "off", "login")
TESTS = 30

OUR_CONFTEST = """
from pytest_jumpstarter import PlainShell, board_state

@board_state
def off(dut):
    dut.power.off()
    dut.flash({image!r})

@board_state(after=off)
def login(dut):
    dut.power.on()
    dut.console().expect("login: ")
    return dut.console()

@board_state(after=login)
def shell(dut):
    dut.console().sendline("root")
    dut.console().expect_exact("board:~# ")
    return PlainShell(dut.console(), prompt="board:~# ")
"""
OUR_TEST = {
    "off": "def test_{number}(off, dut): assert next(dut.power.read()).current == 0\n",
    "login": "def test_{number}(login): login.sendline('')\n",
    "shell": "def test_{number}(shell): assert shell.run('led').stdout == 'led is off'\n",
}

THEIR_HEAD = """
from contextlib import suppress
import pexpect, pytest
from jumpstarter_testing.pytest import JumpstarterTest

class Helpers:
    def __init__(self, client, console, trusts):
        self.client, self.console, self.trusts, self.state = client, console, trusts, None

    def bring(self, state):
        if self.trusts and self.state == state:
            return
        self.client.power.off()
        with suppress(pexpect.TIMEOUT):  # else the next `expect` finds the prompt of before
            while self.console.read_nonblocking(65536, timeout=0.1):
                pass
        if state != "off":
            self.client.power.on()
            self.console.expect("login: ")
        if state == "shell":
            self.console.sendline("root")
            self.console.expect_exact("board:~# ")
        self.state = state

    def run(self, command):
        self.console.sendline(command)
        self.console.expect_exact("board:~# ")
        return self.console.before.decode().split("\\r\\n")[1]

class TestBoard(JumpstarterTest):
    selector = "board=everyday"

    @pytest.fixture(scope="class")
    def board(self, client):
        client.power.off()
        client.storage.flash({image!r})
        with client.console.pexpect() as console:
            yield Helpers(client, console, {trusts})
"""
THEIR_TEST = {
    "off": """
    def test_{number}(self, board):
        board.bring("off")
        assert next(board.client.power.read()).current == 0
""",
    "login": """
    def test_{number}(self, board):
        board.bring("login")
        board.console.sendline("")
""",
    "shell": """
    def test_{number}(self, board):
        board.bring("shell")
        assert board.run("led") == "led is off"
""",
}


def tests(templates: dict[str, str]) -> str:
    """Return the source of all tests, on each state in turn."""
    return "".join(templates[STATES[number % len(STATES)]].format(number=number) for number in range(TESTS))


def main() -> None:
    """Measure all sides in turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-mib", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    taken: dict[str, list[float]] = {"ours": [], "theirs, anew": [], "theirs, trusting": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = str(write_image(folder / "image", args.image_mib))
        suites = {"ours": Suite(folder / "ours", tests(OUR_TEST), conftest=OUR_CONFTEST.format(image=image))}
        for trusts, side in ((False, "theirs, anew"), (True, "theirs, trusting")):
            source = THEIR_HEAD.format(image=image, trusts=trusts) + tests(THEIR_TEST)
            suites[side] = Suite(folder / f"theirs-{trusts}", source, conftest=MENDED)
        with Bench.open(folder, BOARD) as bench:
            for _ in range(args.rounds):
                for side, suite in suites.items():
                    options = (*PLUGIN, "--jmp-selector=board=everyday") if side == "ours" else ()
                    taken[side].append(suite.run(*options, config_home=bench.config_dir)[0])
                    bench.wait_until_free()
    ours = statistics.median(taken["ours"])
    print("| side | seconds | ours beside it |\n| --- | --- | --- |")
    for side, seconds in taken.items():
        middle = statistics.median(seconds)
        print(f"| {side} | {middle:.1f} ({min(seconds):.1f} to {max(seconds):.1f}) | {ours / middle:.2f} x |")


if __name__ == "__main__":
    main()

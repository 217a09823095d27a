"""`Shell` on bad lines: slow ones, boards that lose characters, and a kernel that prints at any moment."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator

import pytest
from shells import bench_of, logged_in, program

from pytest_jumpstarter.device import Device
from pytest_jumpstarter.device.command import CommandTimeout
from pytest_jumpstarter.device.shell_language import PosixExchange, staged
from pytest_jumpstarter.errors import ConsoleGarbled

RUNS = int(os.environ.get("SHELL_RUNS", "200"))
"""Commands of a test that has many."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """Lease an exporter with one shell for each fault."""
    export = "".join(program(name, "dash", "-i") for name in ("good", "kernel", "lossy_said", "lossy_typed", "hasty"))
    export += program("slow", "busybox", "sh", "-i", more=", baud: 9600")
    with bench_of(export, tmp_path_factory.mktemp("bench")) as device:
        yield device


Faults = Callable[..., None]


@pytest.fixture
def faults(bench: Device) -> Iterator[Callable[..., None]]:
    """Return what makes the line of a console go wrong; afterwards it is good again."""
    used = set()

    def set_faults(path: str, *, typed: float = 0, said: float = 0, kernel: float = 0, longest: int = 0) -> None:
        used.add(path)
        bench.drivers[path].call("set_faults", 1, typed, said, kernel, longest)

    yield set_faults
    for path in used:
        set_faults(path)


def test_no_answer_is_another_commands(bench: Device) -> None:
    """Each of many commands gets its own answer and exit code."""
    shell = logged_in(bench, "good")
    for number in range(RUNS):
        result = shell.run(f"echo {number}; (exit {number % 256})", check=False)
        assert (result.stdout, result.exited) == (str(number), number % 256)


def test_kernel_messages_anywhere(bench: Device, faults: Faults) -> None:
    """Messages of the kernel at random positions give no wrong exit code, and hardly an error."""
    shell = logged_in(bench, "kernel")
    faults("kernel", kernel=0.004)
    chance = random.Random(2)
    kernel, garbled = 0, 0
    for number in range(RUNS // 2):
        code = chance.choice([0, 1, 7, 12, 127, 130, 255])
        try:
            result = shell.run(f"echo {number}; (exit {code})", check=False)
        except ConsoleGarbled:
            garbled += 1
            continue
        assert result.exited == code
        assert str(number) in without_messages("\n".join([result.stdout, *result.kernel]))
        kernel += len(result.kernel)
    assert kernel > 0
    assert garbled <= RUNS / 30  # where one message breaks another, nobody can tell


@pytest.mark.parametrize("direction", ["typed", "said"])
def test_lost_characters(bench: Device, faults: Faults, direction: str) -> None:
    """A line that loses characters gives errors that say so, and no wrong exit code."""
    shell = logged_in(bench, f"lossy_{direction}")
    faults(f"lossy_{direction}", **{direction: 0.002})
    errors = []
    for number in range(RUNS // 20):
        code = number * 7 % 256
        try:
            result = shell.run(f"(exit {code})", check=False, timeout=2)
        except (ConsoleGarbled, CommandTimeout) as exc:
            errors.append(str(exc))
        else:
            assert result.exited == code
    assert len(errors) < RUNS / 20
    assert all("damaged on the way" in error and "send_delay" in error for error in errors if "within" not in error)


def test_line_that_arrives_damaged_is_sent_again(bench: Device, faults: Faults) -> None:
    """A board that takes only so many characters at once runs nothing of a line that it has cut."""
    shell = logged_in(bench, "hasty")
    faults("hasty", longest=64)
    with pytest.raises((ConsoleGarbled, CommandTimeout)):
        shell.run("echo hasty", timeout=1)
    slower = logged_in(bench, "hasty", send_delay=0.001)
    assert slower.run("echo slow").stdout == "slow"


def test_slow_line(bench: Device) -> None:
    """At 9600 baud commands run, long ones and files too."""
    shell = logged_in(bench, "slow")
    assert shell.run("echo slow").stdout == "slow"
    assert shell.run(f"echo {'x' * 300}").stdout == "x" * 300


@pytest.mark.parametrize("code", [0, 1, 12, 127, 255])
def test_exit_code_that_lost_a_digit_does_not_match(code: int) -> None:
    """Whatever single character of the answer is lost, the exit code is right or refused."""
    exchange = PosixExchange("true")
    answer = answer_of(exchange, code)
    for position in range(len(answer)):
        damaged = answer[:position] + answer[position + 1 :]
        match = exchange.ended().search(damaged)
        assert match is None or exchange.exit_code(match) in (None, code)


@pytest.mark.parametrize("message", ["[   12.345678] usb 1-1: 7 0\r\n", "\r\n<6>[    1.000000][   T1] 127 9\r\n"])
def test_message_at_each_position_of_the_answer(message: str) -> None:
    """A message of the kernel at any position of a marker leaves the answer as it is."""
    exchange = PosixExchange("true")
    answer = answer_of(exchange, 127)
    begin = f"{answer[:8]}B\r\n"
    for position in range(len(answer)):
        noisy = answer[:position] + message + answer[position:]
        match = exchange.ended(noisy=True).search(noisy)
        assert match is not None, noisy
        assert exchange.exit_code(match) == 127
    for position in range(len(begin)):
        assert exchange.begun(noisy=True).search(begin[:position] + message + begin[position:]), position


def test_each_line_of_a_long_command_is_short() -> None:
    """A long command goes in lines that the line editor of busybox takes, whatever characters it has."""
    for text in ("x" * 5000, "'" * 3000, '"\\$`' * 1000, "\t\n" * 1000, "😀" * 1000):
        assert max(len(PosixExchange(part).line) for part in staged(text)) < 1023


def answer_of(exchange: PosixExchange, code: int) -> str:
    """Return what the board prints at the end of a command."""
    first, second, key = re.findall(r'%s%s %s %s\\n" (\w+) (\w+)E .*\(\((\d+) ', exchange.line)[0]
    return f"{first}{second}E {code} {int(key) ^ code}\r\n"


def without_messages(text: str) -> str:
    """Return a text without the messages of the kernel that the line injects."""
    return re.sub(r"\[ *\d+\.\d{6}\] usb [^\n]*\n?", "", text)

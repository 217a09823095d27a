"""`Shell` on bash, dash and busybox, on the consoles of a real exporter: what a command printed, and how it ended."""

from __future__ import annotations

import pickle
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest
from shells import PROMPT, bench_of, logged_in, program

from pytest_jumpstarter import masking
from pytest_jumpstarter.device import Device
from pytest_jumpstarter.device.call_window import call_began
from pytest_jumpstarter.device.command import CommandFailed, CommandTimeout
from pytest_jumpstarter.device.shell import Shell
from pytest_jumpstarter.errors import BoardRebooted

SHELLS = {
    "bash": ("bash", "--norc", "-i"),
    "bash_without_readline": ("bash", "--norc", "--noediting", "-i"),
    "dash": ("dash", "-i"),
    "busybox": ("busybox", "sh", "-i"),
}

GETTY = r"""
printf 'Booting\n'; sleep 0.3; printf '[  OK  ] Started\nboard login: '; read u
printf 'Password: '; stty -echo; read p; stty echo; echo
[ "$u$p" = rootsecret ] || { echo Login incorrect; exec sh "$0"; }
PS1='root@board:\w# ' exec dash -i
"""

# A slow board: the Enter that asks for its prompt is its first user, and the user its password.
# Then it is not slow.
SLOW_GETTY = r"""
sleep 1.6; printf 'board login: '; read u; sleep 0.6; printf '\nboard login: '; sleep 0.6; read u
printf 'Password: '; read p; echo Login incorrect; exec sh "${0%slow_getty}getty"
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """Lease an exporter with a shell of each kind, and boards that ask for a login."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "getty").write_text(GETTY)
    (folder / "slow_getty").write_text(SLOW_GETTY)
    gettys = "".join(program(f"getty{number}", "sh", str(folder / "getty")) for number in range(3))
    gettys += "".join(program(f"slow_getty{number}", "sh", str(folder / "slow_getty")) for number in range(2))
    shells = "".join(program(name, *command) for name, command in SHELLS.items())
    with bench_of(shells + gettys + program("silent", "sleep", "60"), folder) as device:
        yield device


@pytest.fixture(scope="module", params=SHELLS)
def shell(bench: Device, request: pytest.FixtureRequest) -> Shell:
    """Return a shell at its prompt."""
    return logged_in(bench, request.param)


@pytest.fixture(scope="module")
def dash(bench: Device) -> Shell:
    """Return one shell, for what does not depend on its kind."""
    return logged_in(bench, "dash")


# Rule 1: what is sent


def test_output_and_exit_code(shell: Shell) -> None:
    """A result has what the command printed and its exit code."""
    result = shell.run("echo hello; echo world")
    assert (result.stdout, result.exited, result.ok, result.lines) == ("hello\nworld", 0, True, ["hello", "world"])
    assert (str(result), result.stderr, result.kernel) == (result.stdout, "", ())
    assert result.duration > 0
    assert shell.run("false", check=False).exited == 1
    assert shell.run("sh -c 'exit 255'", check=False).exited == 255


def test_failure_raises(shell: Shell) -> None:
    """A command that fails raises an assertion that quotes it, unless the test checks itself."""
    with pytest.raises(CommandFailed, match=r"(?s)\"sh -c 'echo why; exit 3'\" exited 3; it said:\n  why") as caught:
        shell.run("sh -c 'echo why; exit 3'")
    assert caught.value.result.exited == 3
    assert isinstance(caught.value, AssertionError)


@pytest.mark.parametrize(
    ("command", "stdout"),
    [
        ("true", ""),
        ("", ""),
        ("printf abc", "abc"),
        ("printf '\\n\\nabc\\n\\n'", "\n\nabc"),
        ("echo 'root@board:/# '; echo more", "root@board:/# \nmore"),
        ("""echo 'a'"b" "it's" '$?' `echo c` "$(echo d)" \\\\ # comment""", "ab it's $? c d \\"),
        ("echo hi # it's", "hi"),
        ("for i in 1 2\ndo echo $i\ndone", "1\n2"),
        ("cat <<E\none\n\ttwo\nE", "one\n\ttwo"),
        ("printf '%s|' 'a\tb' \x01 \x03 %", "a\tb|\x01|\x03|%|"),
        ("echo hello! !! !$", "hello! !! !$"),
        ("echo ä€😀", "ä€😀"),
        ("echo -n -- --", "-- --"),
        (r"printf '\033[31mred\033[0m\n'", "red"),
        (r"printf '10%%\r100%%\r\n'", "10%\n100%"),
        ("cat", ""),
        ("echo b | cat", "b"),
        ("printf '\\303\\n'", "\ufffd"),
        ("echo " + "x" * 900, "x" * 900),
        ("echo '" + "it'\"'\"'s %d \\ $\t" * 80 + "'", ("it's %d \\ $\t" * 80)),
    ],
    ids=range(20),
)
def test_any_command(shell: Shell, command: str, stdout: str) -> None:
    """Quotes, comments, several lines, tabs, controls, long lines: what the shell runs is what the test gave."""
    assert shell.run(command).stdout == stdout


@pytest.mark.parametrize("command", ["echo 'open", 'echo "open', "if true; then", "echo )", "for", "echo `", "echo ${"])
def test_syntax_error_is_a_failure(shell: Shell, command: str) -> None:
    """What is no command fails, long or short, and the next command runs as if nothing had been."""
    assert shell.run(command, check=False).exited not in (0, None)
    assert shell.run(f": {'x' * 900}; {command}", check=False).exited not in (0, None)
    assert shell.run("echo on").stdout == "on"


def test_state_stays(shell: Shell) -> None:
    """The folder and variables stay from one command to the next, long commands too."""
    shell.run("cd /; X=5")
    shell.run("Y='" + "y" * 1000 + "'")
    assert shell.run("echo $PWD $X ${#Y}").stdout == "/ 5 1000"


def test_nothing_is_installed(shell: Shell) -> None:
    """A shell that takes the place of the first works on, if it has the same prompt."""
    shell.run("set -x; set -u")
    try:
        assert "traced" in shell.run("echo traced").lines
    finally:
        shell.run("set +x; set +u")
    shell.console.sendline("exec dash -i")
    assert shell.login().run("echo other").stdout == "other"


def test_refuses_a_nul_character(dash: Shell) -> None:
    """No shell can take a NUL character; that is said before anything is sent."""
    with pytest.raises(ValueError, match="NUL"):
        dash.run("echo a\0b")


# Rule 3: prompts and login


def test_login(bench: Device) -> None:
    """Login goes through a boot, a login prompt and a password; again at a prompt, it finds it."""
    shell = Shell(bench.console("getty0"), prompt=PROMPT, user="root", password="secret", timeout=20)
    assert shell.login() is shell
    assert shell.run("echo in").stdout == "in"
    assert shell.login().run("echo again").stdout == "again"


def test_login_with_a_wrong_password_fails_at_once(bench: Device) -> None:
    """A refused login is an error at once, and the password is masked in all output."""
    shell = Shell(bench.console("getty1"), prompt=PROMPT, user="root", password="wrong-pass", timeout=600)
    with pytest.raises(PermissionError, match="refused the login of 'root'"):
        shell.login()
    assert "wrong-pass" not in masking.mask("with wrong-pass")


def test_login_that_takes_enter_for_the_user(bench: Device) -> None:
    """A refusal of what the board has read out of step is tried once more; the second one is an error."""
    options: dict[str, Any] = {"prompt": PROMPT, "user": "root", "timeout": 60}
    Shell(bench.console("slow_getty0"), password="secret", **options).login()
    with pytest.raises(PermissionError, match="refused the login of 'root'"):
        Shell(bench.console("slow_getty1"), password="wrong-word", **options).login()


def test_login_without_a_user(bench: Device) -> None:
    """A board that asks for a user which the test did not give is an error that says what to write."""
    with pytest.raises(PermissionError, match=r"asks for a user.*Shell\(…, user=…\)"):
        Shell(bench.console("getty2"), prompt=PROMPT, timeout=600).login()


def test_login_to_a_silent_board(bench: Device) -> None:
    """A board that says nothing, not even after Enter, is a timeout."""
    with pytest.raises(CommandTimeout, match=r"was not at a prompt within 1\.5s"):
        Shell(bench.console("silent"), prompt=PROMPT).login(timeout=1.5)


@pytest.mark.parametrize("prompt", ["", ".*", "#?"])
def test_prompt_that_matches_everywhere(bench: Device, prompt: str) -> None:
    """A prompt that matches an empty text is refused, because every output would end with it."""
    with pytest.raises(ValueError, match="matches an empty text"):
        Shell(bench.console("dash"), prompt=prompt)


# Rule 4: what is not output


def test_kernel_lines(shell: Shell) -> None:
    """Lines of the kernel are apart; one that breaks into a line stays there."""
    result = shell.run(
        "echo one; echo '[   12.345678] usb 1-1: new device'; echo '<6>[    1.000000][  T1] x'; echo two"
    )
    assert result.stdout == "one\ntwo"
    assert result.kernel == ("[   12.345678] usb 1-1: new device", "<6>[    1.000000][  T1] x")
    assert shell.run("printf 'on'; echo '[   12.345678] usb'").stdout == "on[   12.345678] usb"


def test_kernel_lines_that_are_asked_for(dash: Shell) -> None:
    """Lines of the kernel are output where the command reads them."""
    assert dash.run("echo '[   12.345678] usb 1-1' # as dmesg").stdout == "[   12.345678] usb 1-1"


def test_noise_between_commands(shell: Shell) -> None:
    """What comes between two commands belongs to neither."""
    shell.run("(sleep 0.3; echo noise; sleep 0.3; printf 'noise without end') &")
    shell.run("sleep 0.4")
    shell.console.expect("without end", timeout=10)
    assert shell.run("echo quiet").stdout == "quiet"


def test_ten_commands_each_with_its_answer(dash: Shell) -> None:
    """Each command gets its own answer."""
    assert [dash.run(f"echo {number}").stdout for number in range(10)] == [str(number) for number in range(10)]


def test_large_output(dash: Shell) -> None:
    """Megabytes come whole, in a time that grows with them and not with their square."""
    lines = dash.run("seq -f '%063g' 32000").lines
    assert len(lines) == 32_000
    assert [int(line) for line in lines] == list(range(1, 32_001))


# Rule 5: timeout


def test_timeout_and_recovery(shell: Shell) -> None:
    """A command that does not end is a pexpect.TIMEOUT that quotes it; the next one begins with Ctrl-C."""
    with pytest.raises(
        CommandTimeout, match=r"(?s)'echo begun; sleep 30' did not end within 0\.5s; it said:.*begun"
    ) as caught:
        shell.run("echo begun; sleep 30", timeout=0.5)
    assert isinstance(caught.value, pexpect.TIMEOUT)
    assert call_began(caught.value) is not None  # so that a verdict looks at what the lab did meanwhile
    assert shell.run("echo again").stdout == "again"


def test_shell_that_is_lost_fails_fast(dash: Shell) -> None:
    """After a command that Ctrl-C does not end, each further one fails at once, until the shell answers."""
    with pytest.raises(CommandTimeout):
        dash.run("(trap '' INT; sleep 3)", timeout=0.5)
    with pytest.raises(CommandTimeout, match=r"has had no prompt since .*sleep 3"):
        dash.run("echo again", timeout=600)
    dash.login()
    assert dash.run("echo again").stdout == "again"


def test_wait_until(dash: Shell, tmp_path: Path) -> None:
    """A command is run again until it exits 0 and its output matches; the error says what was missing."""
    dash.run(f"(sleep 0.7; touch {tmp_path}/x) &")
    assert dash.wait_until(f"test -e {tmp_path}/x", timeout=20, interval=0.2).ok
    assert dash.wait_until("echo a running b", match=r"running\b", timeout=20).stdout == "a running b"
    with pytest.raises(CommandTimeout, match=r"(?s)'echo ever' did not print a match of 'never' .*exited 0.*ever"):
        dash.wait_until("echo ever", match="never", timeout=0.4, interval=0.1)
    with pytest.raises(CommandTimeout, match=r"'false' did not exit 0 within 0.2s; the last time it exited 1"):
        dash.wait_until("false", timeout=0.2, interval=0.1)


# Rule 6: reboot


def test_reboot_is_seen_by_the_banner_of_u_boot(dash: Shell) -> None:
    """A boot during a command is a test failure, long before the timeout."""
    with pytest.raises(BoardRebooted, match=r"(?s)ended, during .echo work.*\n  work\n  U-Boot SPL 2026"):
        dash.run("echo work; printf 'U-Boot SPL 2026.01 (Jan 05 2026 - 10:00:00 +0000)\\n'; sleep 30", timeout=600)
    assert dash.run("echo on").stdout == "on"


def test_reboot_is_seen_by_the_login_prompt(dash: Shell) -> None:
    """A shell that ends at a login prompt is not waited for, whatever the kernel still prints."""
    kernel = "[    9.123456] random: crng init done"
    with pytest.raises(BoardRebooted, match="the board booted, or its shell ended"):
        dash.run(f"printf 'board login: '; sleep 0.2; echo '{kernel}'; sleep 30", timeout=600)
    assert dash.run("echo on").stdout == "on"


def test_words_of_a_boot_in_output(dash: Shell) -> None:
    """Output that quotes a boot is output: `dmesg`, a version, a log with a login prompt."""
    banner = "U-Boot 2026.01 (Jan 05 2026 - 10:00:00 +0000)"
    quoted = f"[    0.000000] Booting Linux on physical CPU 0\n{banner}\nboard login: "
    result = dash.run(f"echo '{quoted}'; sleep 0.3; printf 'last login: '; sleep 0.3; echo end")
    assert result.stdout == f"{banner}\nboard login: \nlast login: end"


def test_shell_that_ends(bench: Device) -> None:
    """A console that closes during a command raises what `expect` does."""
    shell = logged_in(bench, "busybox")
    with pytest.raises(pexpect.EOF):
        shell.run("exit 1")
    logged_in(bench, "busybox")


# Files, and commands in the background


def test_put_and_get(shell: Shell, tmp_path: Path) -> None:
    """Bytes come back as they were put, with their mode, whatever the name."""
    data = secrets.token_bytes(1500)
    shell.put(data, f"{tmp_path}/a 'b", mode=0o600)
    assert shell.get(f"{tmp_path}/a 'b") == data
    assert (tmp_path / "a 'b").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a 'b"]
    shell.put("ä", f"{tmp_path}/text")
    assert shell.get(f"{tmp_path}/text") == "ä".encode()


def test_put_and_get_what_cannot_be(dash: Shell, tmp_path: Path) -> None:
    """A file that is not there, cannot be written or is large is an error that says so."""
    with pytest.raises(CommandFailed, match="exited"):
        dash.get(f"{tmp_path}/nothing")
    with pytest.raises(CommandFailed, match="exited"):
        dash.put("x", f"{tmp_path}/nothing/x")
    (tmp_path / "large").write_bytes(bytes(2 << 20))
    with pytest.raises(ValueError, match="has 2097152 bytes; over a console at most 1048576"):
        dash.get(f"{tmp_path}/large")
    with pytest.raises(ValueError, match="storage driver"):
        dash.put(bytes(2 << 20), f"{tmp_path}/x")


def test_start_ends_with_ctrl_c(shell: Shell) -> None:
    """A command that was started runs until the end of the block; meanwhile nothing else can."""
    with shell.start("echo listening; while :; do sleep 0.2; echo tick; done") as running:
        running.expect("listening")
        running.expect("tick.*tick", timeout=10)
        with pytest.raises(RuntimeError, match="runs; leave its `with` block"):
            shell.run("echo no")
    assert running.result is not None
    assert running.result.lines[:2] == ["listening", "tick"]
    assert running.result.exited != 0
    assert shell.run("echo on").stdout == "on"


def test_start_of_a_command_that_ends_by_itself(shell: Shell) -> None:
    """A command that was started may read what is typed, and end; its exit code is that of the command."""
    with shell.start("read x; echo got $x; exit=4; (exit 4)") as running:
        running.sendline("it")
        with pytest.raises(CommandFailed, match="exited 4"):
            running.wait(timeout=20)
        assert running.wait(check=False).lines[-1] == "got it"
    assert shell.run("echo on").stdout == "on"


def test_start_of_a_command_that_catches_ctrl_c(shell: Shell) -> None:
    """A command that ends in order after Ctrl-C has its own exit code."""
    with shell.start("sh -c 'trap \"echo bye; exit 7\" INT; echo up; while :; do sleep 0.1; done'") as running:
        running.expect("up")
    assert running.result is not None
    assert running.result.exited in (7, 130)
    assert "bye" in running.result.stdout


def test_error_in_the_block_of_start_counts(dash: Shell) -> None:
    """An error in the block is raised, not one of ending the command; then the shell works on."""
    with pytest.raises(ZeroDivisionError), dash.start("sleep 30"):
        _ = 1 / 0
    assert dash.run("echo on").stdout == "on"


def test_result_is_neither_true_nor_false(dash: Shell) -> None:
    """A forgotten `.ok` cannot pass a test."""
    with pytest.raises(TypeError, match=r"use \.ok"):
        assert dash.run("false", check=False)


def test_errors_travel(dash: Shell) -> None:
    """The error of a command survives the way from a worker."""
    with pytest.raises(CommandFailed) as caught:
        dash.run("false")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.result) == (str(caught.value), caught.value.result)


def test_discard_drops_what_was_read(dash: Shell) -> None:
    """What `discard` returned is not matched by a later `expect`, whatever was waited for before."""
    console = dash.console
    for waits in (True, False):
        console.sendline(r"printf 'dis''carded\nlast\n'")  # by one write: nothing comes after the discard
        console.expect("discarded")
        assert console.expect(["never", pexpect.TIMEOUT], timeout=0.2 if waits else 0) == 1
        console.discard()
        console.sendline("echo next")
        console.expect("next")
        assert "last" not in console.before
    dash.login()

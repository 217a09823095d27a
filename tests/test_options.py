"""The option table: three spellings, their precedence, and where each value came from."""

from __future__ import annotations

import pytest

from pytest_jumpstarter.errors import OptionError
from pytest_jumpstarter.options import OPTIONS
from pytest_jumpstarter.settings import Settings


def settings(pytester: pytest.Pytester, *args: str, environ: dict[str, str] | None = None, ini: str = "") -> Settings:
    """Return the settings of a run with these arguments, this environment and this ini file."""
    if ini:
        pytester.makeini(f"[pytest]\n{ini}")
    return Settings.of(pytester.parseconfig(*args), environ or {})


def test_default(pytester: pytest.Pytester) -> None:
    """Without any spelling the default is in force and says so."""
    wait = settings(pytester)["wait"]
    assert (wait.value, wait.source) == (1800.0, "default")


def test_ini_beats_default(pytester: pytest.Pytester) -> None:
    """An ini value is in force and names its file."""
    wait = settings(pytester, ini="jmp_wait = 15m")["wait"]
    assert (wait.value, wait.source) == (900.0, "jmp_wait in tox.ini")


def test_command_line_beats_ini(pytester: pytest.Pytester) -> None:
    """The command line beats the ini file."""
    wait = settings(pytester, "--jmp-wait", "1h30m", ini="jmp_wait = 15m")["wait"]
    assert (wait.value, wait.source) == (5400.0, "--jmp-wait")


def test_environment_stands_between(pytester: pytest.Pytester) -> None:
    """Jumpstarter's own variable beats the ini file, and the command line beats it."""
    environ = {"JMP_LEASE": "from-env"}
    found = settings(pytester, ini="jmp_lease = from-ini", environ=environ).find("lease", "dut")
    assert found is not None
    assert (found.value, found.source) == ("from-env", "JMP_LEASE")
    found = settings(pytester, "--jmp-lease", "from-cli", environ=environ).find("lease", "dut")
    assert found is not None
    assert found.value == "from-cli"


def test_roles(pytester: pytest.Pytester) -> None:
    """ROLE: aims a value, on the command line and in the ini file; each role keeps its strongest."""
    found = settings(
        pytester,
        "--jmp-selector=gateway:kind=gw,can",
        "--jmp-selector=board=rpi4",
        ini="jmp_selector =\n    board=rpi3\n    scope:kind in (a, b)",
    )
    assert {setting.role: setting.text for setting in found.of_roles()} == {
        "dut": "board=rpi4",
        "gateway": "kind=gw,can",
        "scope": "kind in (a, b)",
    }


def test_last_one_wins(pytester: pytest.Pytester) -> None:
    """Of two on the command line for one role the last is in force, as for every other option."""
    found = settings(pytester, "--jmp-exporter=a", "--jmp-exporter=b").find("exporter", "dut")
    assert found is not None
    assert found.value == "b"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--jmp-wait=5x",), "--jmp-wait: '5x' is not a duration; write 90, 90s, 15m, 1h30m or HH:MM:SS"),
        (("--jmp-scope=world",), "--jmp-scope: 'world' is not one of session, package, module, class and function"),
        (("--jmp-selector=a b",), "--jmp-selector: selector 'a b' does not parse: ',' expected before 'b'"),
        (("--jmp-exporter=../x",), "--jmp-exporter: '../x' is not a valid name in a lab"),
        (("--jmp-client=",), "--jmp-client: the value is empty"),
    ],
)
def test_bad_values(pytester: pytest.Pytester, args: tuple[str, ...], message: str) -> None:
    """A bad value is one error that names its source and says what would be right."""
    with pytest.raises(OptionError) as caught:
        settings(pytester, *args)
    assert str(caught.value).startswith(message)


def test_bad_value_ends_the_run_at_once(pytester: pytest.Pytester) -> None:
    """A bad value is a usage error: exit code 4, one line, no traceback."""
    pytester.makeini("[pytest]\njmp_wait = soon")
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.errlines if line]
    assert lines == ["ERROR: jmp_wait in tox.ini: 'soon' is not a duration; write 90, 90s, 15m, 1h30m or HH:MM:SS"]


@pytest.mark.parametrize("spelling", ["--jmp-selector=gatway:kind=gw", "--jmp-exporter=gatway:gw-1"])
def test_unknown_role(pytester: pytest.Pytester, spelling: str) -> None:
    """A value for a role that no fixture has is a usage error that lists the roles there are."""
    pytester.makeconftest(
        "from pytest_jumpstarter import device_fixture\ngateway = device_fixture(selector='kind=gw')\n"
    )
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest(spelling)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --jmp-*: no device fixture is named 'gatway'*there are dut, gateway"])


def test_header_shows_values_and_sources(pytester: pytest.Pytester) -> None:
    """The header names each value in force with its source, within 80 columns."""
    pytester.makeini("[pytest]\njmp_client = ci")
    result = pytester.runpytest("--jmp-selector=board=rpi4", "--jmp-wait=15m")
    text = " ".join(line.strip() for line in result.outlines)
    assert "lease mode, selector=board=rpi4 (--jmp-selector), client=ci (jmp_client in tox.ini)" in text
    assert "wait=15m (--jmp-wait), ttl=2m (default), no-device=fail (default), scope=session (default)" in text
    assert "retries=0 (default)" in text
    start = next(i for i, line in enumerate(result.outlines) if line.startswith("jumpstarter:"))
    assert all(len(line) <= 80 for line in result.outlines[start : start + 2])


def test_no_header_when_nothing_is_set(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that sets nothing of ours has no line of ours."""
    monkeypatch.delenv("JUMPSTARTER_HOST", raising=False)
    monkeypatch.delenv("JMP_LEASE", raising=False)
    pytester.runpytest().stdout.no_fnmatch_line("jumpstarter:*")


@pytest.mark.parametrize(
    ("args", "environ", "mode"),
    [
        ((), {}, "lease"),
        (("--jmp-lab=x.yaml",), {}, "lab"),
        ((), {"JUMPSTARTER_HOST": "/run/x", "JMP_LEASE": "l"}, "shell"),
        (("--jmp-lab=x.yaml",), {"JUMPSTARTER_HOST": "/run/x"}, "lab"),
        (("--jmp-selector=a=b",), {"JUMPSTARTER_HOST": "/run/x"}, "lease"),
        (("--jmp-exporter=a",), {"JUMPSTARTER_HOST": "/run/x"}, "lease"),
        (("--jmp-lease=a",), {"JUMPSTARTER_HOST": "/run/x"}, "lease"),
    ],
)
def test_mode(pytester: pytest.Pytester, args: tuple[str, ...], environ: dict[str, str], mode: str) -> None:
    """The first source that applies gives the mode; only the command line overrides a shell."""
    assert settings(pytester, *args, environ=environ).mode == mode


def test_one_place(pytester: pytest.Pytester) -> None:
    """If --jmp-lab and --jmp-direct are both set, the command line wins; both in the same place are an error."""
    assert settings(pytester, "--jmp-direct=host:1", ini="jmp_lab = lab.yaml").mode == "direct"
    assert settings(pytester, "--jmp-lab=lab.yaml", ini="jmp_direct = host:1").mode == "lab"
    with pytest.raises(
        OptionError, match=r"--jmp-lab \(lab.yaml\) and --jmp-direct \(host:1\) cannot be used together"
    ):
        settings(pytester, "--jmp-lab=lab.yaml", "--jmp-direct=host:1")
    with pytest.raises(OptionError, match=r"jmp_lab in tox.ini \(.*\) and jmp_direct in tox.ini \(host:1\)"):
        settings(pytester, ini="jmp_lab = lab.yaml\njmp_direct = host:1")


def test_ini_selector_does_not_override_a_shell(pytester: pytest.Pytester) -> None:
    """Inside a shell an ini selector is checked against the shell's board, not leased by."""
    found = settings(pytester, ini="jmp_selector = board=rpi4", environ={"JUMPSTARTER_HOST": "/run/x"})
    assert found.mode == "shell"


def test_the_lab_ignores_the_lease_of_another(pytester: pytest.Pytester) -> None:
    """JMP_LEASE names a lease of some other lab, so it is not used with --jmp-lab."""
    assert settings(pytester, "--jmp-lab=x.yaml", environ={"JMP_LEASE": "a"}).find("lease", "dut") is None


def test_the_lease_of_a_shell_is_the_shells(pytester: pytest.Pytester) -> None:
    """A selector on the command line that overrides a shell leases anew; the shell's JMP_LEASE is not in its way."""
    environ = {"JUMPSTARTER_HOST": "/run/x", "JMP_LEASE": "a"}
    assert settings(pytester, "--jmp-selector=board=rpi4", environ=environ).find("lease", "dut") is None


def test_help_style() -> None:
    """Help texts start with a capital and end without a full stop."""
    for option in OPTIONS:
        assert option.help[0].isupper()
        assert not option.help.endswith(".")

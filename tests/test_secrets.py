"""No secret in any output: tokens and passphrases, whatever fails, with every frame and every local variable shown."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from unpacked import unpacked

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.lab import Lab

pytestmark = pytest.mark.usefixtures("all_plugins")

CANARY = f"canary{secrets.token_hex(12)}"


@pytest.fixture
def config(lab: Lab, tmp_path: Path) -> Callable[..., str]:
    """Return what writes a client config for the shared lab with some fields changed, as an option of pytest."""

    def write(**changes: object) -> str:
        fields = yaml.safe_load(lab.client_config.read_text()) | changes
        file = tmp_path / "client.yaml"
        file.write_text(yaml.safe_dump(fields))
        return f"--jmp-client={file}"

    return write


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, suite: pytest.Pytester) -> Callable[..., None]:
    """Return what makes the environment the only source of the client config."""
    suite.makeini("[pytest]\njmp_selector = kind=dut\n")

    def set_(**variables: str) -> None:
        for name, value in ({"JMP_NAMESPACE": "lab", "JMP_NAME": "default", "JMP_TOKEN": CANARY} | variables).items():
            monkeypatch.setenv(name, value)

    return set_


@pytest.fixture
def lab_secrets(lab: Lab) -> list[str]:
    """Return the lab's own token for this client, and the parts of it that are secret alone."""
    token = str(yaml.safe_load(lab.client_config.read_text())["token"])
    return [token, *token.split(".")[1:]]


def output(suite: pytest.Pytester, *args: str, failed_in: str) -> str:
    """
    Run with everything shown, and return all that came out: terminal, errors, and the JUnit file.

    `failed_in` is a piece of our code that must be among the frames shown, or the run would prove nothing.
    """
    if not list(suite.path.glob("test_*.py")):
        suite.makepyfile("def test_it(dut): dut.power.on()")
    result = suite.runpytest_subprocess("-vv", "--showlocals", "--log-level=DEBUG", "--junitxml=report.xml", *args)
    assert result.ret not in (pytest.ExitCode.OK, pytest.ExitCode.USAGE_ERROR)
    text = "\n".join([*result.outlines, *result.errlines, (suite.path / "report.xml").read_text()])
    assert failed_in in text
    return text


def test_refused_token(suite: pytest.Pytester, config: Callable[..., str]) -> None:
    """A token that the lab refuses is not shown, although every frame of the call is."""
    text = output(suite, config(token=CANARY), failed_in="client/v1/client.py")
    assert "AuthenticationError" in text
    assert CANARY not in text


def test_endpoint_down(suite: pytest.Pytester, config: Callable[..., str], dead: str) -> None:
    """A token that never left is not shown."""
    text = output(suite, config(token=CANARY, endpoint=dead), "--jmp-wait=1s", failed_in="leasing/own_lease.py")
    assert "ControllerUnreachable" in text
    assert CANARY not in text


def test_token_in_the_environment(suite: pytest.Pytester, environment: Callable[..., None], dead: str) -> None:
    """JMP_TOKEN is not shown, and neither is the environment that holds it; JMP_ENDPOINT, which is no secret, is."""
    environment(JMP_ENDPOINT=dead)
    text = output(suite, "--jmp-wait=1s", failed_in="leasing/own_lease.py")
    assert f"ControllerUnreachable: CreateLease at {dead}: " in text
    assert CANARY not in text


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"JMP_ENDPOINT": "https://nonsense"},
        {"JMP_ENDPOINT": "lab:1", "JMP_TOKEN": f"{CANARY} and more"},
        {"JMP_ENDPOINT": "lab:1", "JMP_DRIVERS": "{"},
        {"JMP_ENDPOINT": "lab:1", "JMP_NAME": "ü"},
    ],
)
def test_broken_environment(
    suite: pytest.Pytester, environment: Callable[..., None], variables: dict[str, str]
) -> None:
    """A client config that is broken in the environment does not show what else is there."""
    environment(**variables)
    text = output(suite, failed_in="ClientConfigError")
    assert CANARY not in text


@pytest.mark.parametrize(
    "text",
    [
        f"token: {CANARY}\n  endpoint: [",
        f"endpoint: [{CANARY}",
        f"- token: {CANARY}",
        f"kind: UserConfig\ntoken: {CANARY}",
        f"token: [{CANARY}]\nendpoint: lab:1\nmetadata: {{namespace: lab, name: me}}",
        f"token: {CANARY}\nrefresh_token: {CANARY}\nendpoint: https://lab\nmetadata: {{namespace: lab, name: me}}",
    ],
    ids=["no YAML", "no end", "a list", "wrong kind", "token is a list", "endpoint is a URL"],
)
def test_broken_client_config(suite: pytest.Pytester, tmp_path: Path, text: str) -> None:
    """A client config that is broken is not quoted."""
    file = tmp_path / "client.yaml"
    file.write_text(text)
    assert CANARY not in output(suite, f"--jmp-client={file}", failed_in="client/v1/")


def test_a_hook_fails_in_the_middle(suite: pytest.Pytester, lab_secrets: list[str]) -> None:
    """A hook that fails while the device is connected does not show the token of the lease's client."""
    suite.makeconftest("def pytest_jumpstarter_device_ready(device, config): raise RuntimeError('flash failed')")
    text = output(suite, failed_in="leasing/from_controller.py")
    assert "flash failed" in text
    assert [secret for secret in lab_secrets if secret in text] == []


def test_the_lease_is_lost_in_the_middle(suite: pytest.Pytester, lab: Lab, lab_secrets: list[str]) -> None:
    """A lease that goes to someone else while the tunnel is opened shows the tunnel's frames, and no token."""
    suite.makeconftest(
        f"""
        from pathlib import Path
        from pytest_jumpstarter.client.v1 import Client
        def pytest_jumpstarter_lease_acquired(lease):
            with Client.from_config(Path({str(lab.client_config)!r})) as client:
                client.update_lease(lease.name, client="other")
        """
    )
    text = output(suite, failed_in="device/tunnel.py")
    with Client.from_config(lab.config_dir / "clients" / "other.yaml") as other:
        for lease in other.list_leases():
            other.delete_lease(lease.name)
    assert "LeaseLost" in text
    assert [secret for secret in lab_secrets if secret in text] == []


def test_the_test_itself_fails(suite: pytest.Pytester, lab: Lab) -> None:
    """What a test may have at hand shows no token: run, client, config, requests, answers and routes."""
    suite.makepyfile(
        f"""
        from pathlib import Path
        from pytest_jumpstarter.client.v1 import Client, ClientConfig, Request

        def test_it(dut, jumpstarter, request):
            client, settings, leases = jumpstarter.client, jumpstarter.settings, jumpstarter.leases
            token = client.token
            route = client.dial(dut.lease.name)
            config = ClientConfig.load(Path({str(lab.client_config)!r}))
            rotate = client.send(Request("RotateToken", {{"parent": "namespaces/lab"}}))
            rotated = client.rotate_token()
            Path("secrets").write_text("\\n".join([token, route.token, config.token, rotated.token]))
            inside = [vars(thing) for thing in (jumpstarter, client, client._connection, settings)]
            assert (client, settings, leases, token, route, config, rotate, rotated, dut, inside) == 5
        """
    )
    text = output(suite, failed_in="rotated    = ")
    kept = (suite.path / "secrets").read_text().split()
    assert len(kept) == 4
    assert [secret for token in kept for secret in [token, *token.split(".")[1:]] if secret in text] == []


@pytest.mark.parametrize("host", ["{dead}", "/nowhere/socket"])
def test_passphrase(suite: pytest.Pytester, dead: str, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """The passphrase of a shell is not shown when its exporter cannot be reached."""
    monkeypatch.setenv("JUMPSTARTER_HOST", host.format(dead=dead))
    monkeypatch.setenv("JMP_GRPC_INSECURE", "1")
    monkeypatch.setenv("JMP_GRPC_PASSPHRASE", CANARY)
    monkeypatch.setenv("JMP_DRIVERS_ALLOW", "UNSAFE")
    text = output(suite, failed_in="leasing/in_shell.py")
    assert "DeviceUnreachable" in text
    assert CANARY not in text


def test_password_of_a_proxy(
    suite: pytest.Pytester, config: Callable[..., str], dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """User name and password of a proxy are not shown."""
    monkeypatch.setenv("https_proxy", f"http://user:{CANARY}@{dead}")
    text = output(suite, config(endpoint="lab.example.com:8082"), "--jmp-wait=1s", failed_in="client/v1/client.py")
    assert "ControllerUnreachable" in text
    assert CANARY not in text


def test_header(suite: pytest.Pytester, environment: Callable[..., None], dead: str) -> None:
    """The header of a run and a traceback of its configuration show sources, not secrets."""
    environment(JMP_ENDPOINT=dead, JMP_LEASE="Not A Name")
    suite.makepyfile("def test_it(dut): pass")
    result = suite.runpytest_subprocess("-vv", "--showlocals", "--full-trace", "--trace-config")
    text = "\n".join([*result.outlines, *result.errlines])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "JMP_LEASE: 'Not A Name' is not a valid name in a lab" in text
    assert CANARY not in text


TELLS = """
    import logging, os, pytest
    from pytest_jumpstarter.evidence.lease_times import LeaseTimesRecorder

    SECRETS = {secrets!r}

    def pytest_jumpstarter_collect_evidence(folder):
        folder.add("own.txt", f"own {{SECRETS}}")
        raise RuntimeError(f"hook {{SECRETS}}")

    def pytest_jumpstarter_lease_acquired(lease):
        logging.getLogger("driver").warning("log %s", SECRETS)

    def pytest_configure(config):
        if os.environ.get("BREAK") and not config.getoption("numprocesses", None):
            def broken(self, *args):
                local = str(SECRETS)
                raise RuntimeError(f"the plugin raised {{local}}")
            LeaseTimesRecorder.take_news = broken
"""


@pytest.mark.parametrize("breaks", ["", "1"], ids=["", "the-plugin-raises"])
@pytest.mark.parametrize("more", [["-vv"], ["-q", "-n1", "-p", "no:rerunfailures"]], ids=["verbose", "workers"])
def test_no_output_has_a_secret(
    suite: pytest.Pytester,
    lab_secrets: list[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    breaks: str,
) -> None:
    """A token or passphrase that a test, a console, a hook or a log says is in no file and on no terminal."""
    passphrase = f"pass{CANARY}"
    variable = f"token{CANARY}"
    monkeypatch.setenv("JMP_GRPC_PASSPHRASE", passphrase)
    monkeypatch.setenv("JMP_TOKEN", variable)
    monkeypatch.setenv("BREAK", breaks)
    shaped = f"https://user:sha{CANARY[6:]}@host", f"eyJ{CANARY}.pay{CANARY}.sig{CANARY}", f"Bearer x{CANARY}"
    said = [lab_secrets[0], passphrase, variable, *shaped]
    suite.makeconftest(TELLS.format(secrets=said))
    suite.makepyfile(
        """
        import os, pytest
        from conftest import SECRETS
        def test_it(dut, console, record_property):
            record_property("told", SECRETS[0])
            print(SECRETS)
            dut.power.on()
            console.expect("login: ")
            for secret in SECRETS:
                console.sendline(secret)
                console.expect("[:#] ")
            local = dict(os.environ)
            assert local == SECRETS, f"the product told {SECRETS}"
        """
    )
    files = [f"--{name}" for name in ("jmp-report=run.json", "jmp-report=run.html", "jmp-report=run.md")]
    files += ["--junitxml=report.xml", "--html=page.html", "--log-file=log.txt", "--jmp-artifacts=out"]
    shown = ("--showlocals", "--full-trace", "--log-level=DEBUG", "--log-cli-level=DEBUG", "-rA")
    result = suite.runpytest_subprocess(*files, *shown, *more)
    written = {
        path.name: path.read_text() for path in suite.path.rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    outputs = {name: text for name, text in written.items() if not name.endswith((".py", ".pyc", ".ini", ".css"))}
    outputs |= {name: unpacked(text) for name, text in outputs.items() if name == "run.html"}
    outputs["terminal"] = "\n".join([*result.outlines, *result.errlines])
    for secret in (passphrase, variable, *lab_secrets, *shaped):
        assert [name for name, text in outputs.items() if secret in text] == []
    if breaks:
        assert "the plugin raised" in outputs["terminal"]
        return
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert outputs.keys() >= {"run.json", "run.html", "run.md", "report.xml", "page.html", "log.txt", "console.log"}
    for name in ("terminal", "run.json", "run.html", "report.xml"):
        assert "the product told" in outputs[name]
    assert outputs["own.txt"].startswith("own ['***'")
    assert "RuntimeError: hook ['***'" in outputs["notes.txt"]
    assert "board login: ***" in outputs["console.log"]

"""Where a board comes from besides a lease of our own: an existing lease, a `jmp shell`, an exporter without a lab."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from conftest import exporter_document
from standalone import PASSPHRASE, RunningExporter, serving
from test_drop_in import WRITTEN_BEFORE

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.errors import AlreadyReleased
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.leasing.waiting import attempts

DRIVE = "def test_it(dut): dut.power.on()"


@contextmanager
def leased(client: Client, exporter: str) -> Iterator[str]:
    """Hold a lease on the exporter for somebody else's purposes, and yield its name once the exporter serves it."""
    name = f"existing-{secrets.token_hex(4)}"
    client.create_lease(lease_id=name, exporter_name=exporter, duration=600)
    try:
        assert any(client.get_lease(name).is_ready for _ in attempts(30))
        assert any(client.get_exporter(exporter).status == "LEASE_READY" for _ in attempts(30))
        yield name
    finally:
        with suppress(AlreadyReleased):
            client.delete_lease(name)


@pytest.fixture
def existing(client: Client) -> Iterator[str]:
    """Return the name of a lease on board-2 that somebody made for us."""
    with leased(client, "board-2") as name:
        yield name


def assert_untouched(client: Client, name: str) -> None:
    """See that nobody extended the lease, ended its session or released it, by being the first to do so."""
    lease = client.get_lease(name)
    assert (lease.is_ready, lease.duration) == (True, 600)
    assert client.get_exporter(str(lease.exporter)).status == "LEASE_READY"
    client.delete_lease(name)  # refused if it was asked for before, though a lease ends only a moment later


def names(client: Client) -> set[str]:
    """Return the names of all leases there ever were."""
    return {lease.name for lease in client.list_leases(only_active=False)}


@pytest.mark.parametrize(
    ("args", "variable", "ini"),
    [
        (["--jmp-lease={}"], "", ""),
        (["--jmp-lease=dut:{}", "--jmp-lease=nobody:other-lease"], "", ""),
        ([], "{}", ""),
        ([], "dut:{}", ""),
        ([], "", "jmp_lease = dut:{}"),
        (["--jmp-lease={}"], "other-lease", "jmp_lease = another-lease"),
    ],
    ids=["option", "option for a role", "JMP_LEASE", "JMP_LEASE for a role", "ini", "option beats the others"],
)
def test_existing_lease(
    pytester: pytest.Pytester,
    lab: Lab,
    client: Client,
    existing: str,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    variable: str,
    ini: str,
) -> None:
    """Named in any of the ways, the lease is used, and is as it was afterwards; there is no other."""
    before = names(client)
    monkeypatch.setenv("JMP_LEASE", variable.format(existing))
    pytester.makeini(f"[pytest]\njmp_client = {lab.client_config}\n{ini.format(existing)}\n")
    pytester.makeconftest("from pytest_jumpstarter import device_fixture\nnobody = device_fixture()")
    pytester.makepyfile(
        f"""
        def test_it(dut, jumpstarter):
            dut.power.on()
            assert (dut.lease.name, dut.exporter.name, jumpstarter.mode) == ("{existing}", "board-2", "lease")
            assert [lease.name for lease in jumpstarter.leases] == ["{existing}"]
        """
    )
    pytester.runpytest(*(arg.format(existing) for arg in args)).assert_outcomes(passed=1)
    assert names(client) == before
    assert_untouched(client, existing)


@pytest.mark.parametrize("body", ["assert False", "import pytest; pytest.exit('enough')"])
def test_existing_lease_outlives_any_run(
    pytester: pytest.Pytester, lab: Lab, client: Client, existing: str, body: str
) -> None:
    """A run that fails or is broken off leaves an existing lease alone too."""
    pytester.makepyfile(f"def test_it(dut):\n    print('HOLDING', dut.power.on())\n    {body}")
    result = pytester.runpytest("-s", f"--jmp-client={lab.client_config}", f"--jmp-lease={existing}")
    result.stdout.fnmatch_lines(["*HOLDING*"])
    assert_untouched(client, existing)


def test_existing_lease_unknown(suite: pytest.Pytester) -> None:
    """A lease that does not exist is one clear error."""
    suite.makepyfile(DRIVE)
    refused(suite, "lease no-such (--jmp-lease*) does not exist; jmp get leases shows *", "--jmp-lease=no-such")


def test_existing_lease_ended(suite: pytest.Pytester, client: Client, existing: str) -> None:
    """A lease that has ended is one clear error."""
    client.delete_lease(existing)
    assert any(client.get_lease(existing).is_ended for _ in attempts(10))
    suite.makepyfile(DRIVE)
    refused(suite, f"lease {existing} (--jmp-lease*) has already ended*", f"--jmp-lease={existing}")


def test_existing_lease_of_another_client(suite: pytest.Pytester, lab: Lab) -> None:
    """A lease of another client is one clear error, and is left to that client."""
    suite.makepyfile(DRIVE)
    with Client.from_config(lab.config_dir / "clients" / "other.yaml") as other, leased(other, "board-2") as name:
        refused(
            suite,
            f"lease {name} (--jmp-lease*) belongs to client 'other', not to 'default'",
            f"--jmp-lease={name}",
        )
        other.delete_lease(name)  # refused if it was released before


CONTRADICTIONS = [
    (
        "selector='kind=dut,site=here'",
        "'gateway' asks for *kind=dut,site=here*has exporter board-2 with *kind=gateway*",
    ),
    ("exporter='board-1'", "'gateway' asks for *exporter board-1*has exporter board-2"),
]


@pytest.mark.parametrize(("arguments", "message"), CONTRADICTIONS, ids=["selector", "exporter"])
def test_existing_lease_of_another_board(
    pytester: pytest.Pytester, lab: Lab, client: Client, existing: str, arguments: str, message: str
) -> None:
    """A board that is not what the fixture asks for is a configuration error; no test runs on it."""
    pytester.makeconftest(f"from pytest_jumpstarter import device_fixture\ngateway = device_fixture({arguments})")
    pytester.makepyfile("def test_it(gateway): gateway.power.on()")
    refused(pytester, message, f"--jmp-client={lab.client_config}", f"--jmp-lease=gateway:{existing}")
    assert_untouched(client, existing)


def refused(suite: pytest.Pytester, message: str, *args: str) -> None:
    """See the run end in one error, which is `message` and no traceback."""
    result = suite.runpytest(*args)
    result.assert_outcomes(errors=1)
    start = next(i for i, line in enumerate(result.outlines) if "ERROR at setup" in line)
    shown = [line for line in result.outlines[start + 1 :] if not line.startswith("jumpstarter: exit code")]
    end = next(i for i, line in enumerate(shown) if line.startswith(("===", "---")))  # summary, or captured output
    assert end == 1, shown
    assert fnmatchcase(shown[0], message)


def test_shell(suite: pytest.Pytester, jmp: Path, lab: Lab, client: Client, peer_environ: dict[str, str]) -> None:
    """
    Under `jmp shell -- pytest` nothing is leased, nothing is ended, and the log stream is the shell's alone.

    Each entry of an exporter's log goes to one reader, so a second one would leave the shell without many of the 60.
    """
    before = names(client)
    suite.makeconftest(
        """
        import os
        from pytest_jumpstarter.client.v1 import Client
        from pytest_jumpstarter.leasing.waiting import attempts

        def look(when):
            with Client.from_config() as client, open("seen.txt", "a") as seen:
                for _ in attempts(0.5):   # a lease that is released ends a moment later
                    leases = [lease.name for lease in client.list_leases()]
                    print(when, *leases, client.get_exporter(os.environ["JMP_EXPORTER"]).status, file=seen)

        def pytest_configure(config):
            config.add_cleanup(lambda: look("after"))  # comes after the plugin's own: it is the last thing of all
        """
    )
    suite.makepyfile(
        """
        import os
        from conftest import look

        def test_it(dut, console, jumpstarter):
            look("during")
            assert (jumpstarter.mode, jumpstarter.leases, dut.lease) == ("shell", [], None)
            assert (dut.exporter.name, dut.exporter.labels["site"]) == ("board-1", "here")
            for _ in range(30):
                dut.power.off()
                dut.power.on()
            console.expect("login:")
        """
    )
    pytest_run = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    finished = subprocess.run(
        [str(jmp), "shell", "--exporter-logs", "--selector", "kind=dut", "--", *pytest_run],
        env=peer_environ | {"JMP_CLIENT_CONFIG_HOME": str(lab.config_dir)},
        cwd=suite.path,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "1 passed" in finished.stdout
    (shells,) = names(client) - before
    seen = dict.fromkeys((suite.path / "seen.txt").read_text().splitlines())
    assert list(seen) == [f"during {shells} LEASE_READY", f"after {shells} LEASE_READY"]
    assert [finished.stdout.count(f"power {state}") for state in ("on", "off")] == [30, 30]
    assert client.get_lease(shells).is_ended


OPEN_SHELL = "import json, os, sys; print(json.dumps(dict(os.environ)), flush=True); sys.stdin.read()"


@pytest.fixture(scope="module")
def shell_variables(lab: Lab, jmp: Path, peer_environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """Return the variables that a real `jmp shell` on board-2 sets; it stays open while the tests need it."""
    environ = peer_environ | {"JMP_CLIENT_CONFIG_HOME": str(lab.config_dir)}
    with Client.from_config(lab.client_config) as client, leased(client, "board-2") as name:
        command = [str(jmp), "shell", "--lease", name, "--", sys.executable, "-c", OPEN_SHELL]
        with subprocess.Popen(
            command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            line = next((line for line in process.stdout if line.startswith("{")), "{}")  # it ends, if jmp fails
            yield {key: value for key, value in json.loads(line).items() if key.startswith(("JMP_", "JUMPSTARTER_"))}
            process.stdin.close()
            process.wait(30)


@pytest.fixture
def in_shell(
    pytester: pytest.Pytester, shell_variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """Return a folder for a suite that runs inside the shell on board-2."""
    for key, value in shell_variables.items():
        monkeypatch.setenv(key, value)
    return pytester


@pytest.mark.parametrize(("arguments", "message"), CONTRADICTIONS, ids=["selector", "exporter"])
def test_shell_of_another_board(in_shell: pytest.Pytester, arguments: str, message: str) -> None:
    """A shell whose board is not what the fixture asks for is a configuration error; no test runs on it."""
    in_shell.makeconftest(f"from pytest_jumpstarter import device_fixture\ngateway = device_fixture({arguments})")
    in_shell.makepyfile("def test_it(gateway): gateway.power.on()")
    refused(in_shell, message)


def test_shell_whose_labels_fit(in_shell: pytest.Pytester) -> None:
    """A shell on the board that was asked for is used without a word."""
    in_shell.makeini("[pytest]\njmp_selector = kind=gateway\njmp_exporter = board-2\n")
    in_shell.makepyfile(DRIVE)
    in_shell.runpytest("-W", "error").assert_outcomes(passed=1, warnings=0)


@pytest.mark.parametrize(
    ("unset", "asks"),
    [(["JMP_EXPORTER_LABELS"], "selector='kind=gateway'"), (["JMP_EXPORTER"], "exporter='board-2'")],
    ids=["labels", "name"],
)
def test_shell_that_tells_too_little(
    in_shell: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, unset: list[str], asks: str
) -> None:
    """Where the shell does not tell what a fixture asks for, there is one warning, however many tests there are."""
    for name in unset:
        monkeypatch.delenv(name)
    in_shell.makeconftest(
        f"""
        from pytest_jumpstarter import device_fixture
        board = device_fixture({asks}, scope="function")
        """
    )
    in_shell.makepyfile("def test_a(board): pass\ndef test_b(board): pass\ndef test_c(board): board.power.on()")
    result = in_shell.runpytest("-W", "always")
    result.assert_outcomes(passed=3, warnings=1)
    result.stdout.fnmatch_lines(["*'board' asks for *(device_fixture*), but the environment does not tell which *"])


@pytest.mark.parametrize(
    ("args", "exporter"),
    [(["--jmp-selector=kind=dut"], "board-1"), (["--jmp-exporter=board-1"], "board-1"), (["--jmp-lease={}"], "mock-1")],
    ids=["selector", "exporter", "lease"],
)
def test_command_line_overrides_the_shell(
    in_shell: pytest.Pytester, client: Client, shell_variables: dict[str, str], args: list[str], exporter: str
) -> None:
    """What the command line says about the board leases it, or uses that lease; the shell's own board is left alone."""
    in_shell.makepyfile(
        f"""
        def test_it(dut, jumpstarter):
            dut.power.on()
            assert (jumpstarter.mode, dut.exporter.name) == ("lease", "{exporter}")
        """
    )
    with leased(client, "mock-1") as name:
        in_shell.runpytest(*(arg.format(name) for arg in args)).assert_outcomes(passed=1)
        assert {lease.name for lease in client.list_leases()} == {shell_variables["JMP_LEASE"], name}
    assert client.get_exporter("board-2").status == "LEASE_READY"


def test_shell_that_is_gone(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JUMPSTARTER_HOST that nobody serves is a device error, not the test's fault."""
    monkeypatch.setenv("JUMPSTARTER_HOST", "/no/such/socket")
    monkeypatch.setenv("JMP_DRIVERS_ALLOW", "UNSAFE")
    pytester.makepyfile(DRIVE)
    result = pytester.runpytest()
    result.assert_outcomes()
    result.stdout.fnmatch_lines(["*device error: the exporter at JUMPSTARTER_HOST=/no/such/socket does not answer: *"])


@pytest.fixture(scope="module")
def standalone(running_exporter: RunningExporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return HOST:PORT of a real `jmp run` that serves in plain text whoever has the passphrase."""
    options = ["--tls-grpc-insecure", "--passphrase", PASSPHRASE]
    with serving(running_exporter, tmp_path_factory.mktemp("standalone"), *options) as address:
        yield address


@pytest.fixture
def beside_standalone(pytester: pytest.Pytester, standalone: str, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a folder for a suite that runs with JUMPSTARTER_HOST=HOST:PORT, and no passphrase yet."""
    monkeypatch.setenv("JUMPSTARTER_HOST", standalone)
    monkeypatch.setenv("JMP_GRPC_INSECURE", "1")
    monkeypatch.setenv("JMP_DRIVERS_ALLOW", "UNSAFE")
    return pytester


def test_host_and_port(beside_standalone: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """JUMPSTARTER_HOST may be HOST:PORT, with the passphrase and the plain text that Jumpstarter's own clients take."""
    monkeypatch.setenv("JMP_GRPC_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # loopback is never asked for through a proxy
    beside_standalone.makepyfile(
        """
        def test_it(dut, jumpstarter):
            dut.power.on()
            assert [reading.voltage for reading in dut.power.read()] == [0.0, 5.0]
            assert (jumpstarter.mode, dut.exporter.name, dut.exporter.labels) == ("shell", "", None)
        """
    )
    result = beside_standalone.runpytest()
    result.assert_outcomes(passed=1, warnings=0)
    result.stdout.no_fnmatch_line(f"*{PASSPHRASE}*")


@pytest.mark.parametrize("passphrase", ["wrong-but-secret", ""], ids=["wrong", "missing"])
def test_passphrase_refused(
    beside_standalone: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, passphrase: str
) -> None:
    """A wrong or missing passphrase is one clear configuration error."""
    monkeypatch.setenv("JMP_GRPC_PASSPHRASE", passphrase)
    beside_standalone.makepyfile(DRIVE)
    refused(beside_standalone, "the exporter at * refuses us: invalid or missing passphrase; JMP_GRPC_PASSPHRASE *")


def test_passphrase_is_never_shown(beside_standalone: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a full traceback with local variables shows the passphrase that was refused."""
    monkeypatch.setenv("JMP_GRPC_PASSPHRASE", "wrong-but-secret")
    beside_standalone.makepyfile(DRIVE)
    result = beside_standalone.runpytest("-vv", "--showlocals", "--full-trace")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["details *= 'invalid or missing passphrase'"])  # a local variable
    assert "wrong-but-secret" not in result.stdout.str() + result.stderr.str()


def test_plain_text_where_tls_is_expected(beside_standalone: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without JMP_GRPC_INSECURE, an exporter that speaks plain text is one clear error."""
    monkeypatch.delenv("JMP_GRPC_INSECURE")
    monkeypatch.setenv("JMP_GRPC_PASSPHRASE", PASSPHRASE)
    beside_standalone.makepyfile(DRIVE)
    refused(beside_standalone, "the exporter at * speaks plain text, not TLS; JMP_GRPC_INSECURE=1 allows that")


def test_suite_written_for_jumpstarter_testing(in_shell: pytest.Pytester) -> None:
    """In a shell the same suite uses the shell's board; a class that wants another kind is refused."""
    in_shell.makepyfile(
        f"{WRITTEN_BEFORE}\n    class TestOther(JumpstarterTest):\n        selector = 'kind=dut'\n"
        "        def test_it(self, client): pass\n"
    )
    result = in_shell.runpytest()
    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines(
        ["*'dut' asks for kind=dut (selector of TestOther), but the jmp shell around this run has *"]
    )


@pytest.mark.parametrize("args", [(), ("-n2",)], ids=["one process", "xdist"])
def test_keys_that_the_embedded_lab_ignores(pytester: pytest.Pytester, args: tuple[str, ...]) -> None:
    """A real exporter config is told once which of its keys the lab of the run ignores; its token is not shown."""
    document = exporter_document("one", "board: x", "  power: {type: jumpstarter_driver_power.driver.MockPower}\n")
    (pytester.path / "lab.yaml").write_text(f"{document.rstrip()}\nendpoint: host:8082\ntoken: secret-of-the-file\n")
    pytester.makepyfile("def test_a(dut): dut.power.on()\ndef test_b(dut): dut.power.off()")
    result = pytester.runpytest("--jmp-lab=lab.yaml", "--jmp-selector=board=x", *args)
    result.assert_outcomes(passed=2)
    told = [line for line in result.outlines if "ignored" in line]
    assert told == ["jumpstarter: lab.yaml:1: ignored: endpoint, token"]
    assert "secret-of-the-file" not in result.stdout.str() + result.stderr.str()


IMPORTED = """
import sys
CLIENTS = "jumpstarter_driver_composite.client"
def pytest_jumpstarter_lease_request(): print("IMPORTED", CLIENTS in sys.modules)
def pytest_unconfigure(config): print("CONTROLLER", hasattr(config, "workerinput") or CLIENTS not in sys.modules)
"""


def test_imports_while_the_lab_starts(pytester: pytest.Pytester) -> None:
    """What driver clients need is imported while the lab of a run starts."""
    document = exporter_document("one", "board: x", "  power: {type: jumpstarter_driver_power.driver.MockPower}\n")
    (pytester.path / "lab.yaml").write_text(document)
    pytester.makepyfile(DRIVE)
    pytester.makeconftest(IMPORTED)
    result = pytester.runpytest_subprocess("-s", "--jmp-lab=lab.yaml", "--jmp-selector=board=x")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*IMPORTED True"])
    result = pytester.runpytest_subprocess("-s", "-n1", "--jmp-lab=lab.yaml", "--jmp-selector=board=x")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*CONTROLLER True"])  # it starts the lab, and connects to no exporter

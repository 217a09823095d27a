"""Hooks of exporters, in every way to get a board: what is shown, the verdict, and the exit code."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import product
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any, NamedTuple

import pytest
from conftest import exporter_document
from runs import IS_WHOLE, part, running, until, wait_for
from standalone import RunningExporter, serving

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.errors import AlreadyReleased
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.leasing import waiting

POWER = "  power: {type: jumpstarter_driver_power.driver.MockPower}\n"


class Case(NamedTuple):
    """A hook, and what comes of it."""

    script: str
    on_failure: str
    timeout: int = 20
    failure: str = ""
    """What is said of the hook; empty if it succeeds."""

    @property
    def ends_lease(self) -> bool:
        """Whether no test can run after this hook."""
        return bool(self.failure) and self.on_failure != "warn"


CASES = {
    "ok": Case("echo WORDS", "endLease"),
    "slow": Case("sleep 0.7; echo WORDS", "endLease"),
    "warn": Case("echo WORDS; sleep 0.3; exit 3", "warn", failure="Hook failed with exit code 3"),
    "end": Case("echo WORDS; sleep 0.3; exit 3", "endLease", failure="Hook failed with exit code 3"),
    "exit": Case("echo WORDS; sleep 0.3; exit 3", "exit", failure="Hook failed with exit code 3"),
    "over": Case("echo WORDS; sleep 20", "endLease", 1, "Hook timed out after 1 seconds"),
}
WORDS = "WORDS"


def hook(when: str, case: Case) -> str:
    """Return the part of an exporter's config that has the hook."""
    script, failing = json.dumps(case.script), case.on_failure
    return f"hooks:\n  {when}: {{script: {script}, timeout: {case.timeout}, onFailure: {failing}}}\n"


BEFORE = {f"before_{name}": ["beforeLease"] + ["afterLease"] * (not CASES[name].ends_lease) for name in CASES}
AFTER = {f"after_{name}": ["afterLease"] for name in CASES if CASES[name].ends_lease}
EXPORTERS = BEFORE | AFTER
"""The hooks of each exporter. One whose beforeLease hook ends the lease never comes to its afterLease hook."""
ALONE = {f"alone_{name}": ["afterLease"] for name in CASES if CASES[name].ends_lease}
"""Further exporters, because one whose afterLease hook has failed takes no other lease."""


def case_of(exporter: str) -> Case:
    """Return the case of an exporter."""
    return CASES[exporter.partition("_")[2]]


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Serve a lab with an exporter for each case."""
    documents = []
    for name, hooks in (EXPORTERS | ALONE).items():
        both = "hooks:\n" + "".join(hook(when, case_of(name)).removeprefix("hooks:\n") for when in hooks)
        documents.append(exporter_document(name.replace("_", "-"), f"hook: {name[:5].strip('_')}", POWER, both))
    long = hook("beforeLease", Case("sleep 5", "endLease"))
    documents += [exporter_document(name, "hook: long", POWER, long) for name in ("long-1", "long-2", "long-3")]
    folder = tmp_path_factory.mktemp("hooks")
    for name, other in (("first", "second"), ("second", "first")):
        is_there = f"for i in $(seq 150); do test -e {folder / other} && exit; sleep 0.1; done"
        meet = hook("afterLease", Case(f"touch {folder / name}; {is_there}; exit 3", "warn"))
        documents.append(exporter_document(name, "hook: meet", POWER, meet))
    minute = hook("afterLease", Case("sleep 60", "warn", timeout=90))
    documents.append(exporter_document("minute", "hook: minute", POWER, minute))
    file = folder / "lab.yaml"
    file.write_text("---\n".join(documents))
    with Lab([file]) as lab:
        yield lab


@pytest.fixture
def suite(pytester: pytest.Pytester, hooked: Lab) -> pytest.Pytester:
    """Return a suite with one test for each exporter; its fixture has the exporter's name."""
    return write_suite(pytester, hooked, EXPORTERS)


def write_suite(pytester: pytest.Pytester, hooked: Lab, exporters: Iterable[str]) -> pytest.Pytester:
    """Write a suite with one test for each exporter."""
    pytester.makeini(f"[pytest]\njmp_client = {hooked.client_config}\njmp_wait = 60s\njmp_scope = function\n")
    devices = [f"on_{name} = device_fixture(exporter='{name.replace('_', '-')}')" for name in exporters]
    pytester.makeconftest("\n".join(["from pytest_jumpstarter import device_fixture", *devices]))
    pytester.makepyfile("\n".join(f"def test_{name}(on_{name}): on_{name}.power.on()" for name in exporters))
    return pytester


@pytest.fixture(autouse=True)
def all_free(request: pytest.FixtureRequest) -> Iterator[None]:
    """Wait after a test until the exporters with a beforeLease hook are free again: one starts anew."""
    yield
    if "hooked" in request.fixturenames:
        with Client.from_config(request.getfixturevalue("hooked").client_config) as client:
            # After an afterLease hook with `endLease` an exporter 0.9 stays as it is: it takes no other lease.
            until(
                lambda: all(it.status == "AVAILABLE" for it in client.list_exporters(filter="hook=befor")),
                timeout=60,
            )


def run_all(suite: pytest.Pytester, *options: str) -> tuple[pytest.RunResult, dict[str, dict[str, Any]]]:
    """Run; return the result, and the data of each test by the name of its case."""
    result = suite.runpytest("--jmp-report=run.json", "--junit-xml=junit.xml", *options)
    data = json.loads((suite.path / "run.json").read_text())
    leases = {lease["key"]: lease for lease in data["leases"]}
    tests = {test["id"].partition("::test_")[2]: test for test in data["tests"]}
    for test in tests.values():
        test["hook_failures"] = [text for it in test["devices"] for text in leases[it["key"]]["hook_failures"]]
    return result, tests


def assert_before(tests: dict[str, dict[str, Any]], name: str, *, has_words: bool | None = True) -> None:
    """
    Assert the outcome of a test whose exporter has a beforeLease hook, and what is said of the hook.

    Args:
        tests: The tests by their names.
        name: The exporter.
        has_words: Whether the output of the hook is known; None: only if the run came before its end.
    """
    case, test = case_of(name), tests[name]
    assert test["outcome"] == ("device error" if case.ends_lease else "passed"), test
    said = test["device_error"]["reason"] if case.ends_lease else "".join(test["hook_failures"])
    assert case.failure in said
    assert has_words is None or (WORDS in said) is (bool(case.failure) and has_words), said
    assert test["device_error"] is None or test["device_error"]["kind"] == "HookFailed"


def test_hooks_of_leases(suite: pytest.Pytester) -> None:
    """
    A beforeLease hook that ends the lease is a device error with its output; after the test, no hook changes a verdict.

    Each that fails, and each warning, is in every report, with the output of the hook.
    """
    result, tests = run_all(suite, "--jmp-report=run.html")
    assert result.ret == 8
    for name in BEFORE:
        assert_before(tests, name)
    shown = result.stdout.str().partition("hooks that failed")[2]
    page = (suite.path / "run.html").read_text()
    for name in EXPORTERS:
        case, exporter = case_of(name), name.replace("_", "-")
        is_seen_after = name in AFTER or not case.ends_lease
        assert name in BEFORE or tests[name]["outcome"] == "passed"
        failures = "".join(tests[name]["hook_failures"][-1:])
        assert not is_seen_after or case.failure in failures
        assert (WORDS in failures) is (bool(case.failure) and is_seen_after), failures
        assert (f"exporter {exporter}: " in shown) is (bool(case.failure) and is_seen_after), exporter
        assert (f"exporter {exporter}: " in page) is bool(case.failure), exporter
    result.stdout.fnmatch_lines(["exporter before-warn: beforeLease hook warning: *exit code 3", "    WORDS"])
    assert shown.count("exporter before-warn: ") == 2
    junit = (suite.path / "junit.xml").read_text()
    assert junit.count(".hook_failures") == 1 + len(AFTER)


def test_after_lease_alone(pytester: pytest.Pytester, hooked: Lab) -> None:
    """A run in which nothing but afterLease hooks failed ends with exit code 0; each is shown with its output."""
    result, tests = run_all(write_suite(pytester, hooked, ALONE))
    assert result.ret == 0
    shown = result.stdout.str().partition("hooks that failed")[2]
    for name in ALONE:
        assert tests[name]["outcome"] == "passed"
        (failure,) = tests[name]["hook_failures"]
        assert case_of(name).failure in failure
        assert WORDS in failure
        assert f"exporter {name.replace('_', '-')}: " in shown


def test_after_lease_of_a_set(pytester: pytest.Pytester, hooked: Lab) -> None:
    """The leases of a set end before any of their hooks is waited for, so these run at the same time."""
    pytester.makeconftest(
        """
        from pytest_jumpstarter import device_fixture
        one = device_fixture(exporter="first")
        two = device_fixture(exporter="second")
        """
    )
    pytester.makepyfile("def test_it(one, two): pass")
    result = pytester.runpytest(f"--jmp-client={hooked.client_config}")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*hooks that failed*")


def test_signal_in_an_after_lease_hook(pytester: pytest.Pytester, hooked: Lab) -> None:
    """A signal ends the wait for a hook: the lease is released already."""
    pytester.makepyfile("def test_it(dut): pass")
    with running(pytester, f"--jmp-client={hooked.client_config}", "--jmp-exporter=minute") as process:
        wait_for(process.stdout, "the afterLease hook of minute is running")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143
    with Client.from_config(hooked.client_config) as client:
        assert "minute" not in [lease.exporter for lease in client.list_leases()]


BY_HAND = """
import pytest
from pytest_jumpstarter.client.v1 import Client

@pytest.fixture(autouse=True)
def lease_by_hand(request):
    name = request.node.name.removeprefix("test_").replace("_", "-")
    with Client.from_config(CONFIG) as client:
        client.create_lease(lease_id=f"by-hand-{name}", exporter_name=name, duration=60)
"""


def test_before_lease_of_an_adopted_lease(suite: pytest.Pytester, hooked: Lab) -> None:
    """With a lease of somebody else, the same; what it does after the lease is not seen."""
    names = list(BEFORE)
    conftest = suite.path / "conftest.py"
    conftest.write_text(conftest.read_text() + BY_HAND.replace("CONFIG", repr(str(hooked.client_config))))
    leases = [f"--jmp-lease=on_{name}:by-hand-{name.replace('_', '-')}" for name in names]
    result, tests = run_all(suite, *leases, "-k", " or ".join(f"test_{name}" for name in names))
    assert result.ret == 8
    for name in names:
        assert_before(tests, name, has_words=None)
        assert len(tests[name]["hook_failures"]) == (name == "before_warn"), "what the hook before the lease has said"
    assert "afterLease" not in result.stdout.str()
    with Client.from_config(hooked.client_config) as client:
        for name in names:
            with suppress(AlreadyReleased):
                client.delete_lease(f"by-hand-{name.replace('_', '-')}")


def test_after_lease_longer_than_we_wait(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that may still succeed is not called failed."""
    monkeypatch.setattr(waiting, "AFTER_HOOK_TIMEOUT", 0.1)
    result = suite.runpytest("-k", "test_before_slow")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*afterLease hook of before-slow is still running after 0.1s; its end is not *"])
    result.stdout.no_fnmatch_line("*hooks that failed*")


def long_hook(pytester: pytest.Pytester, hooked: Lab, name: str, *options: str) -> str:
    """Run a test whose lease ends while a beforeLease hook runs; return the device error."""
    pytester.makepyfile("def test_it(dut): pass")
    result = pytester.runpytest(f"--jmp-client={hooked.client_config}", f"--jmp-exporter={name}", *options)
    assert result.ret == 8
    return next(line for line in result.outlines if line.startswith("  device error on"))


def test_lease_ends_in_the_hook_by_max_hold(pytester: pytest.Pytester, hooked: Lab) -> None:
    """A lease that we do not extend any more is not the fault of the hook."""
    said = long_hook(pytester, hooked, "long-1", "--jmp-max-hold=2s")
    assert said.endswith("all that --jmp-max-hold allows")


def test_lease_ends_in_the_hook_by_hand(pytester: pytest.Pytester, hooked: Lab) -> None:
    """A lease that somebody deletes is told as such."""

    def delete() -> None:
        with Client.from_config(hooked.client_config) as client:
            until(lambda: client.get_exporter("long-2").status == "BEFORE_LEASE_HOOK", timeout=20)
            (lease,) = [it for it in client.list_leases() if it.exporter == "long-2"]
            client.delete_lease(lease.name)

    with ThreadPoolExecutor() as pool:
        deleting = pool.submit(delete)
        said = long_hook(pytester, hooked, "long-2")
        deleting.result()
    assert said.endswith("has ended: The lease was marked for release (Released)")


def test_adopted_lease_expires_in_the_hook(pytester: pytest.Pytester, hooked: Lab) -> None:
    """A lease of somebody else that is over is not the fault of the hook either."""
    with Client.from_config(hooked.client_config) as client:
        client.create_lease(lease_id="by-hand-short", exporter_name="long-3", duration=2)
    pytester.makepyfile("def test_it(dut): pass")
    result = pytester.runpytest(f"--jmp-client={hooked.client_config}", "--jmp-lease=by-hand-short")
    assert result.ret == 8
    said = next(line for line in result.outlines if line.startswith("  device error on"))
    assert "lease by-hand-short has ended: " in said
    assert "Expired" in said


@pytest.mark.parametrize(
    ("name", "way"),
    [*product(BEFORE, ["--jmp-direct"]), *part(BEFORE, ["JUMPSTARTER_HOST"])],
)
def test_hooks_without_a_lab(
    name: str, way: str, pytester: pytest.Pytester, running_exporter: RunningExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Without a lab controller the exporter itself is asked: directly, and where JUMPSTARTER_HOST is set by hand.

    Its afterLease hook is not seen, since it runs when the exporter ends.
    """
    case, done = case_of(name), pytester.path / "hook-done"
    script = case.script.replace("; sleep 0.3; exit 3", f"; sleep 2.5; touch {done}; exit 3")
    script = script if "touch" in script else f"{script}; touch {done}"
    more = hook("beforeLease", case._replace(script=script))
    more += hook("afterLease", case).removeprefix("hooks:\n")
    pytester.makepyfile(f"import os\ndef test_{name}(dut): assert os.path.exists({str(done)!r})")
    with serving(running_exporter, pytester.path, "--tls-grpc-insecure", more=more) as address:
        if way == "JUMPSTARTER_HOST":
            monkeypatch.setenv("JUMPSTARTER_HOST", address)
            monkeypatch.setenv("JMP_GRPC_INSECURE", "1")
            monkeypatch.setenv("JMP_DRIVERS_ALLOW", "UNSAFE")
        result, tests = run_all(pytester, *([f"--jmp-direct=grpc://{address}"] if way == "--jmp-direct" else []))
    if (name, way) == ("before_exit", "JUMPSTARTER_HOST"):  # it has ended, mostly before it could tell why
        (device,) = tests.values()
        assert device["device_error"]["kind"] == "HookFailed"
        assert re.search("ended in its beforeLease hook|exit code 3", device["device_error"]["reason"])
    else:
        assert_before(tests, name, has_words=way == "--jmp-direct")
    assert result.ret == (8 if case.ends_lease else 0)
    assert "afterLease" not in result.stdout.str()


IN_SHELL = ["before_warn"]
"""The exporters to which a real `jmp shell` goes: one of them, because `jmp` is slow to start; all on demand."""

if IS_WHOLE:
    IN_SHELL = [name for name in BEFORE if name != "before_exit"]  # there, `jmp shell` 0.9 itself never ends


@pytest.mark.parametrize("name", IN_SHELL)
def test_hooks_in_a_shell(
    name: str, pytester: pytest.Pytester, hooked: Lab, jmp: Path, peer_environ: dict[str, str]
) -> None:
    """`jmp shell` itself waits for the hooks; where one ends the lease there is no test, else one passes."""
    pytester.makepyfile("def test_it(dut): dut.power.on()")
    command = [str(jmp), "shell", "--client-config", str(hooked.client_config), "-n", name.replace("_", "-"), "--"]
    inner = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--jmp-report=run.json"]
    with ExitStack() as stack:
        options: dict[str, Any] = {"cwd": pytester.path, "env": peer_environ, "stdout": PIPE, "stderr": STDOUT}
        process = stack.enter_context(subprocess.Popen([*command, *inner], text=True, **options))
        stack.callback(process.kill)
        output = process.communicate(timeout=120)[0]
    assert ("1 passed" in output) is not case_of(name).ends_lease, output
    assert (process.returncode == 0) is not case_of(name).ends_lease, output
    if not case_of(name).ends_lease:
        data = json.loads((pytester.path / "run.json").read_text())
        assert [test["outcome"] for test in data["tests"]] == ["passed"]
        failures = [failure for lease in data["leases"] for failure in lease["hook_failures"]]
        assert len(failures) == bool(case_of(name).failure), failures
        assert case_of(name).failure in "".join(failures)
        assert ("jumpstarter: hooks that failed" in output) is bool(failures), output
        assert WORDS in output, "of the shell, which reads the log"

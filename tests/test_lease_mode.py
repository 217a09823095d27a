"""Lease mode, end to end: a test leases a real exporter, drives it, and gives it back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from conftest import exporter_document
from faulty import FaultyLab

from pytest_jumpstarter.client.v1 import Client, Lease

ActiveLeases = Callable[[], list[Lease]]


def test_four_lines(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """The test on the first page of the design passes, and its lease is gone afterwards."""
    suite.makepyfile(
        """
        def test_boots(dut, console):
            dut.power.cycle()
            console.expect("login:")
        """
    )
    suite.runpytest().assert_outcomes(passed=1)
    assert active_leases() == []


def test_device_says_what_it_is(suite: pytest.Pytester) -> None:
    """Device and run tell exporter, labels, lease, role, drivers and mode."""
    suite.makepyfile(
        """
        def test_identity(dut, jumpstarter):
            assert (dut.role, dut.exporter.name, dut.exporter.labels["site"]) == ("dut", "board-1", "here")
            assert dut.lease.exporter == "board-1" and dut.lease.client == jumpstarter.client.name
            assert [lease.name for lease in jumpstarter.leases] == [dut.lease.name]
            assert dut.lease.name.startswith("pj-") and "-main-" in dut.lease.name
            assert {"power", "console", "storage", "board.power"} <= set(dut.drivers)
            assert {"power", "console", "exporter"} <= set(dir(dut))
            assert dut.drivers["power"] is dut.power and dut.power is dut.client.children["power"]
            assert jumpstarter.mode == "lease"
            assert jumpstarter.settings["wait"].value == 60
        """
    )
    suite.runpytest().assert_outcomes(passed=1)


def test_session_scope_is_one_lease(suite: pytest.Pytester, client: Client) -> None:
    """By default all tests of a session share one lease."""
    before = {lease.name for lease in client.list_leases(only_active=False)}
    suite.makepyfile(
        """
        class TestA:
            def test_a(self, dut): dut.power.on()
        def test_b(dut): dut.power.off()
        """
    )
    suite.runpytest().assert_outcomes(passed=2)
    assert len({lease.name for lease in client.list_leases(only_active=False)} - before) == 1


@pytest.mark.parametrize(("scope", "times"), [("session", 1), ("class", 2), ("function", 3)])
def test_narrower_scope(suite: pytest.Pytester, client: Client, scope: str, times: int) -> None:
    """`--jmp-scope` gives `dut` that scope: the fixture is made anew, on the same lease."""
    before = {lease.name for lease in client.list_leases(only_active=False)}
    suite.makeconftest("def pytest_fixture_post_finalizer(fixturedef): print('ENDED', fixturedef.argname)")
    suite.makepyfile(
        """
        class TestA:
            def test_a(self, dut, jumpstarter): assert len(jumpstarter.leases) == 1
            def test_b(self, dut, jumpstarter): assert len(jumpstarter.leases) == 1
        class TestB:
            def test_c(self, dut, jumpstarter): assert len(jumpstarter.leases) == 1
        """
    )
    result = suite.runpytest("-s", f"--jmp-scope={scope}")
    result.assert_outcomes(passed=3)
    assert result.stdout.str().count("ENDED dut") >= times
    assert len({lease.name for lease in client.list_leases(only_active=False)} - before) == 1


def test_two_roles(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """A second device is a second fixture; its name is its role, and options can be aimed at it."""
    suite.makeconftest(
        """
        from pytest_jumpstarter import device_fixture
        gateway = device_fixture(selector="kind=nonsense", scope="module")
        """
    )
    suite.makepyfile(
        """
        def test_two(dut, gateway):
            assert (dut.exporter.name, gateway.exporter.name) == ("board-1", "board-2")
            assert (dut.role, gateway.role) == ("dut", "gateway")
            dut.power.on(); gateway.power.on()
        """
    )
    suite.runpytest("--jmp-selector", "gateway:kind=gateway").assert_outcomes(passed=1)
    assert active_leases() == []


def test_exporter_by_name(suite: pytest.Pytester) -> None:
    """`--jmp-exporter` leases exactly that one, beside the selector it must match."""
    suite.makepyfile("def test_it(dut): assert dut.exporter.name == 'mock-1'")
    suite.runpytest("--jmp-exporter=mock-1", "--jmp-selector=board=mock").assert_outcomes(passed=1)


def test_an_option_beats_the_fixture(suite: pytest.Pytester) -> None:
    """What the command line says about the board replaces what the fixture says, exporter name included."""
    suite.makeconftest("from pytest_jumpstarter import device_fixture\nother = device_fixture(exporter='board-1')\n")
    suite.makepyfile("def test_it(other): assert other.exporter.name == 'mock-1'")
    suite.runpytest("--jmp-selector=other:board=mock").assert_outcomes(passed=1)


def test_hooks_see_the_lease(suite: pytest.Pytester, client: Client) -> None:
    """The hooks are called once per lease, in order, and a request can be changed."""
    suite.makeconftest(
        """
        calls = []
        def pytest_jumpstarter_lease_request(request, role, config):
            calls.append(f"request {role} {request.selector}")
            request.tags["purpose"] = "hooks"
            request.duration = 300
        def pytest_jumpstarter_lease_acquired(lease, role, config):
            calls.append(f"acquired {role} {lease.exporter}")
        def pytest_jumpstarter_device_ready(device, config):
            device.power.on(); calls.append(f"ready {device.role}")
        def pytest_jumpstarter_device_release(device, config):
            device.power.off(); calls.append(f"release {device.role}")
        def pytest_jumpstarter_lease_released(lease, role, config):
            calls.append(f"released {role} {lease.is_ended}")
        def pytest_unconfigure(config):
            print("\\n".join(calls))
        """
    )
    suite.makepyfile(
        """
        def test_it(dut, jumpstarter):
            assert dut.lease.duration == 300   # longer than --jmp-ttl: never shortened
            print("LEASE", dut.lease.name)
        def test_again(dut): pass
        """
    )
    result = suite.runpytest("-s")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["request dut kind=dut", "acquired dut board-1", "ready dut", "release dut", "released dut True"],
        consecutive=True,
    )
    name = next(line.split()[-1] for line in result.outlines if "LEASE" in line)
    tags = client.get_lease(name).tags
    assert (tags["purpose"], tags["managed-by"], tags["lease"]) == ("hooks", "pytest-jumpstarter", name)


def test_tags_tell_the_job(suite: pytest.Pytester, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease is tagged with run, job and build, whatever characters their names have."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_SHA", "0123456789abcdef0123456789abcdef01234567")
    monkeypatch.setenv("GITHUB_JOB", "night / boards: rpi4 (é)")
    monkeypatch.setenv("GITHUB_RUN_ID", "12345")
    suite.makepyfile("def test_it(dut): print('LEASE', dut.lease.name)")
    name = next(line.split()[-1] for line in suite.runpytest("-s").outlines if "LEASE" in line)
    tags = client.get_lease(name).tags
    assert (tags["ci-job"], tags["ci-build"]) == ("night-boards-rpi4", "12345")
    assert tags["commit"] == "0123456789abcdef0123456789abcdef01234567"
    assert name == f"pj-{tags['run']}-main-1"
    assert [lease.name for lease in client.list_leases(tag_filter=f"run={tags['run']}", only_active=False)] == [name]


def test_a_hook_that_fails_gives_the_board_back(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """An exception in a hook is an error of the test's setup; the lease does not stay behind."""
    suite.makeconftest("def pytest_jumpstarter_device_ready(device, config): raise RuntimeError('flash failed')")
    suite.makepyfile("def test_it(dut): pass")
    result = suite.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*RuntimeError: flash failed*"])
    assert active_leases() == []


def test_old_handle(suite: pytest.Pytester) -> None:
    """A handle kept past its lease says so, whatever is asked of it."""
    suite.makepyfile(
        """
        import pytest
        from pytest_jumpstarter.errors import DeviceReleased
        kept = []
        class TestA:
            def test_a(self, dut): kept.append(dut)
        class TestB:
            def test_b(self):
                for use in (lambda: kept[0].power, lambda: kept[0].client, lambda: kept[0].console()):
                    with pytest.raises(DeviceReleased, match="lease pj-.* was released at"):
                        use()
        """
    )
    suite.runpytest("--jmp-scope=class", "--jmp-order=off").assert_outcomes(passed=2)


def test_old_handle_is_the_suites_own_mistake(suite: pytest.Pytester) -> None:
    """A test that fails by a handle kept past its fixture's scope is a failure, and never the lab's fault."""
    suite.makepyfile("kept = []\ndef test_a(dut): kept.append(dut)\ndef test_b(): kept[0].power.on()")
    result = suite.runpytest("--jmp-scope=function")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.no_fnmatch_line("*DEVICE ERROR*")


def test_unknown_driver_has_a_hint(suite: pytest.Pytester) -> None:
    """A driver that is not there is an AttributeError that names those that are."""
    suite.makepyfile("def test_it(dut): dut.powr")
    suite.runpytest().stdout.fnmatch_lines(
        ["E*AttributeError: dut (board-1) has no driver 'powr'; it has board, *(did you mean 'power'[?])"]
    )


def test_driver_errors_are_the_tests_own(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """What a driver raises fails the test as any exception does."""
    suite.makepyfile("def test_it(dut): dut.storage.flash('/no/such/image')")
    suite.runpytest().assert_outcomes(failed=1)
    assert active_leases() == []


def test_before_lease_hook(suite: pytest.Pytester) -> None:
    """Ready means ready: the exporter's hook has run before the test does."""
    suite.makepyfile("def test_it(dut): dut.power.on()")
    suite.runpytest("--jmp-selector=board=hooked").assert_outcomes(passed=1)


def test_before_lease_hook_fails(suite: pytest.Pytester, active_leases: ActiveLeases) -> None:
    """A hook that fails is a device error that says so; the test does not run, and no lease stays."""
    suite.makepyfile("def test_it(dut): dut.power.on()")
    result = suite.runpytest("--jmp-selector=board=broken")
    assert result.ret == 8
    result.stdout.fnmatch_lines(
        [
            "  device error on hook-2 (lease pj-*-main-1): exporter hook-2: *hook*failed*",
            "    preparing the bench*",
            "    the relay card is stuck*",
        ]
    )
    assert active_leases() == []


@pytest.mark.parametrize(("command", "is_well"), [("true", True), ("false", False)])
def test_after_lease_hook(pytester: pytest.Pytester, command: str, is_well: bool) -> None:
    """The run waits for the exporter's afterLease hook, and says so if it fails; the tests' result stays."""
    script, on_failure = f"sleep 1; touch {pytester.path}/cleaned; {command}", "warn" if is_well else "endLease"
    hook = f"hooks:\n  afterLease: {{script: '{script}', timeout: 20, onFailure: {on_failure}}}\n"
    power = "  power: {type: jumpstarter_driver_power.driver.MockPower}\n"
    (pytester.path / "lab.yaml").write_text(exporter_document("hook-3", "board: cleaned", power, hook))
    pytester.makepyfile("def test_it(dut): dut.power.on()")
    result = pytester.runpytest("--jmp-lab=lab.yaml", "--jmp-selector=board=cleaned")
    result.assert_outcomes(passed=1)
    assert (pytester.path / "cleaned").exists()
    assert ("jumpstarter: hooks that failed" in result.stdout.str()) is not is_well


def test_too_many_tags(pytester: pytest.Pytester, boards: FaultyLab) -> None:
    """A lab that allows few tags still leases: ours are left out for the rest of the run, those of hooks stay."""
    pytester.makeini(f"[pytest]\njmp_client = {boards.config}\njmp_selector = kind=dut\njmp_scope = function\n")
    pytester.makeconftest("def pytest_jumpstarter_lease_request(request): request.tags['purpose'] = 'x'")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", [1, 2])
        def test_it(dut, number, jumpstarter):
            (lease,) = jumpstarter.leases
            assert dict(jumpstarter.client.get_lease(lease.name).tags) == {"purpose": "x"}
        """
    )
    boards.order('fail CreateLease INVALID_ARGUMENT "invalid lease tags: too many tags: 7 (maximum 3)" times 1')
    result = pytester.runpytest()
    result.assert_outcomes(passed=2)
    said = [line for line in result.outlines if "leases have no tags of ours" in line]
    assert len(said) == 1
    assert "too many tags: 7 (maximum 3)" in said[0]


@pytest.mark.parametrize("how", ["two workers", "two devices"])
def test_too_many_tags_are_told_once(pytester: pytest.Pytester, how: str) -> None:
    """Each worker learns it by itself, and it is said once; requests that were made before lose their tags too."""
    power = "  power: {type: jumpstarter_driver_power.driver.MockPower}\n"
    documents = "---\n".join(exporter_document(f"tagged-{number}", "kind: dut", power) for number in range(2))
    (pytester.path / "lab.yaml").write_text(documents)
    pytester.makeini("[pytest]\njmp_lab = lab.yaml\njmp_selector = kind=dut\njmp_wait = 60s\n")
    pytester.makeconftest(
        """
        from pytest_jumpstarter import device_fixture
        other = device_fixture(selector="kind=dut")
        def pytest_jumpstarter_lease_request(request):
            request.tags.update({f"purpose-{number}": "x" for number in range(9)})
        """
    )
    pair = "import pytest\n@pytest.mark.parametrize('number', range(2))\ndef test_it(dut, number): dut.power.on()"
    pytester.makepyfile(pair if how == "two workers" else "def test_it(dut, other): other.power.on()")
    result = pytester.runpytest_subprocess(*(["-n2"] if how == "two workers" else []))
    assert result.ret == 0
    assert result.stdout.str().count("leases have no tags of ours") == 1


def test_tags_of_a_hook_that_are_refused(pytester: pytest.Pytester, boards: FaultyLab) -> None:
    """What is still refused without ours is an error that says so."""
    pytester.makeconftest("def pytest_jumpstarter_lease_request(request): request.tags['a/b'] = 'x'")
    pytester.makepyfile("def test_it(dut): pass")
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(['*invalid lease tags: tag key "a/b" must not contain*'])


def test_scheduled_lease(suite: pytest.Pytester, client: Client) -> None:
    """A lease that begins later is waited for with its time, and so says the error in the end."""
    begins = datetime.now(UTC) + timedelta(hours=1)
    lease = client.create_lease(lease_id="for-later", selector="kind=dut", duration=60, begin_time=begins)
    suite.makepyfile("def test_it(dut): pass")
    result = suite.runpytest(f"--jmp-lease={lease.name}", "--jmp-wait=2s", "-o", "jmp_selector=")
    client.delete_lease(lease.name)
    assert result.ret == 8
    when = f"lease for-later begins on {begins.astimezone():%Y-%m-%d at %H:%M:%S}"
    result.stdout.fnmatch_lines([f"*waiting 1* for lease for-later: {when}", f"*no exporter for lease *: {when}"])

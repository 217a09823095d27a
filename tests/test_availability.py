"""What the lab has: one reading of its listings, and the six places that ask it."""

from __future__ import annotations

import itertools
import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from conftest import exporter_document
from lab.peers import ManualExporter
from runs import until

from pytest_jumpstarter.client.v1 import Client, Condition, Exporter, Lease, Request, Response
from pytest_jumpstarter.collection.auto_workers import number_of_workers
from pytest_jumpstarter.errors import AlreadyReleased
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.leasing import Wanted, availability
from pytest_jumpstarter.leasing.availability import (
    Availability,
    ListedExporter,
    count_sets,
    describe_candidates,
    hint_for,
)
from pytest_jumpstarter.leasing.choice import Choice
from pytest_jumpstarter.workers import NOTE

MOCK = "  power: {type: jumpstarter_driver_power.driver.MockPower}\n"
DISABLED = "enabled: false\n"
BENCH = "---\n".join(
    [
        exporter_document("bare", "board: x", MOCK, DISABLED),  # which has the fewest labels
        exporter_document("plain", "board: x, can: 'true'", MOCK),
        exporter_document("rich", "board: x, can: 'true', lin: 'true'", MOCK),
        exporter_document("off-1", "board: 'off'", MOCK, DISABLED),
        exporter_document("off-2", "board: 'off', only: here", MOCK, DISABLED),
        exporter_document("old-1", "board: old, number: '1'", None),
        exporter_document("old-2", "board: old, number: '2', more: here", None),
    ]
)
X = Wanted(role="dut", selector="board=x", source="--jmp-selector")
OFF = Wanted(role="dut", selector="board=off", source="--jmp-selector")
OLD = Wanted(role="dut", selector="board=old")


def exporter(name: str, *, status: str = "AVAILABLE", online: bool = True, enabled: bool | None = True) -> Exporter:
    """Return an exporter of a listing; its label `kind` is its name less the number."""
    labels = {"kind": name.rpartition("-")[0]}
    return Exporter(name=name, namespace="lab", labels=labels, online=online, status=status, enabled=enabled)


def lease(exporter: str, client: str | None = "ci-7", *, is_ready: bool = True) -> Lease:
    """Return a lease of a listing, on that exporter."""
    condition = Condition(type="Ready", status=is_ready, reason="Ready", message="")
    return Lease(name=f"of-{exporter}", namespace="lab", client=client, exporter=exporter, conditions=(condition,))


def names(exporters: Sequence[ListedExporter]) -> list[str]:
    """Return their names."""
    return [exporter.name for exporter in exporters]


def wishes(*selectors: str) -> list[Wanted]:
    """Return a wish for each selector."""
    return [Wanted(role=f"role{number}", selector=selector) for number, selector in enumerate(selectors)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Serve a lab in which some exporters are disabled, and some are for a test to run."""
    file = tmp_path_factory.mktemp("bench") / "lab.yaml"
    file.write_text(BENCH)
    with Lab([file], clients=["other"]) as lab:
        yield lab


@pytest.fixture
def bench_client(bench: Lab) -> Iterator[Client]:
    """Return a client of this lab, with whose leases its boards are taken; all are given back in the end."""
    with Client.from_config(bench.client_config) as client:
        yield client
        for each in client.list_leases():
            with suppress(AlreadyReleased):  # it is listed until it has ended
                client.delete_lease(each.name)
        until(lambda: {each.status for each in client.list_exporters(filter="board=x")} == {"AVAILABLE"}, timeout=30)


@pytest.fixture
def benched(pytester: pytest.Pytester, bench: Lab) -> pytest.Pytester:
    """Return a folder whose ini file points at this lab."""
    pytester.makeini(f"[pytest]\njmp_client = {bench.client_config}\njmp_wait = 30s\n")
    pytester.makepyfile("def test_it(dut): pass")
    return pytester


def take(client: Client, exporter: str) -> None:
    """Lease an exporter, and wait until it is ours."""
    made = client.create_lease(lease_id=f"taken-{secrets.token_hex(4)}", exporter_name=exporter, duration=120)
    until(lambda: client.get_lease(made.name).is_ready, timeout=20)


def note_requests(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the method of each later request of a client is added."""
    asked: list[str] = []
    send = client.send

    def noting(request: Request) -> Response:
        asked.append(request.method)
        return send(request)

    monkeypatch.setattr(client, "send", noting)
    return asked


class TestOneReading:
    """How one exporter stands, and several."""

    @pytest.mark.parametrize(
        ("facts", "is_usable", "is_free"),
        [
            ({}, True, True),
            ({"enabled": None}, True, True),
            ({"status": "UNSPECIFIED"}, True, True),
            ({"status": "LEASE_READY"}, True, False),
            ({"status": "AFTER_LEASE_HOOK"}, True, False),
            ({"status": "BEFORE_LEASE_HOOK_FAILED"}, True, False),
            ({"status": "STATUS_99"}, True, False),
            ({"enabled": False}, False, False),
            ({"online": False}, False, False),
            ({"online": False, "status": "UNSPECIFIED"}, False, False),
            ({"status": "OFFLINE"}, False, False),
        ],
    )
    def test_without_a_lease(self, facts: Mapping[str, object], is_usable: bool, is_free: bool) -> None:
        """Disabled and offline ones cannot be leased, busy ones not now; of old ones, online is all that is told."""
        there = Availability({None: [exporter("a-1", **facts)]})  # type: ignore[arg-type]  # as the row says
        candidates = there.of(Wanted(role="dut"))
        assert (names(candidates.usable), names(candidates.free)) == (["a-1"] * is_usable, ["a-1"] * is_free)
        assert bool(candidates.problem) is not is_usable

    @pytest.mark.parametrize("status", ["AVAILABLE", "UNSPECIFIED", "LEASE_READY"])
    def test_with_a_lease(self, status: str) -> None:
        """What is leased is not free, whatever it says itself; a lease that is over or pending holds nothing."""
        listings: Mapping[str | None, Sequence[Exporter]] = {None: [exporter("a-1", status=status), exporter("a-2")]}
        there = Availability(listings, [lease("a-1"), lease("a-2", is_ready=False)]).of(Wanted(role="dut"))
        assert (names(there.usable), names(there.free)) == (["a-1", "a-2"], ["a-2"])
        assert there.leased_by == {"ci-7": 1}

    def test_words_for_people_who_wait(self) -> None:
        """Each exporter counts once; what there is none of is told only for leased and offline."""
        listed = [exporter(f"a-{number}") for number in range(4)]
        kinds = [exporter("a-4", online=False), exporter("a-5", enabled=False, online=False)]
        unready = [exporter("a-6", status="AFTER_LEASE_HOOK")]
        leases = [lease("a-0"), lease("a-1"), lease("a-2", None), lease("a-4"), lease("a-5")]
        there = Availability({None: [*listed, *kinds, *unready]}, leases).of(Wanted(role="dut"))
        words = "7 match, 3 leased (by ci-7, ?), 1 offline, 1 disabled, 1 not ready (AFTER_LEASE_HOOK)"
        assert str(there) == words
        assert str(Availability({None: listed}).of(Wanted(role="dut"))) == "4 match, 0 leased, 0 offline"

    def test_who_matches(self) -> None:
        """Selector and name must both match; whom the lab controller lists for a selector, its labels need not show."""
        listed = [exporter("a-1"), exporter("a-2"), exporter("b-1")]
        there = Availability({None: listed, "hidden=yes": listed[:1]})
        assert names(there.of(Wanted(role="dut", selector="kind in (a)")).matching) == ["a-1", "a-2"]
        assert names(there.of(Wanted(role="dut", selector="kind=a", exporter="a-2")).matching) == ["a-2"]
        assert names(there.of(Wanted(role="dut", selector="kind=a", exporter="b-1")).matching) == []
        assert names(there.of(Wanted(role="dut", selector="hidden=yes")).matching) == ["a-1"]

    @pytest.mark.parametrize(
        ("listed", "problem"),
        [
            (
                [exporter("a-1", enabled=False), exporter("a-2", enabled=False, online=False)],
                "no exporter that matches kind=a (ini) is enabled: 2 disabled (a-1, a-2); "
                "ask the administrators of the lab to enable one",
            ),
            (
                [exporter("a-1", enabled=False), exporter("a-2", online=False)],
                "no exporter that matches kind=a (ini) is online: 1 disabled and 1 offline (a-1, a-2); "
                "start `jmp run` on its host, or ask the administrators of the lab",
            ),
            ([exporter("b-1")], "no exporter matches kind=a (ini); the lab has kind=b (1)"),
            ([], "this client sees no exporter at all; check its namespace, and that exporters are registered there"),
        ],
        ids=["disabled", "offline", "no match", "nothing"],
    )
    def test_why_none_can_be_had(self, listed: list[Exporter], problem: str) -> None:
        """The problem tells what is the matter and what to do."""
        assert Availability({None: listed}).of(Wanted(role="dut", selector="kind=a", source="ini")).problem == problem

    def test_shortage(self) -> None:
        """What is wanted together takes an exporter each; whoever can takes another one."""
        listed = [exporter("a-1"), exporter("b-1"), exporter("b-2", enabled=False)]
        there = Availability({None: listed}, [lease("a-1")])  # which will be given back
        assert there.shortage(wishes("kind in (a,b)", "kind=a")) == ""
        assert there.shortage([]) == ""
        assert there.shortage(wishes("kind=b", "kind in (b)")) == (
            "role0 (kind=b) and role1 (kind in (b)) are leased together and need 2 boards at once, "
            "but the matching boards are too few: b-1; add boards, or use fewer devices in one test"
        )


def most_sets(needs: Sequence[frozenset[str]]) -> int:
    """Return the same as `count_sets`, by trying all ways to give exporters to needs."""
    everything = sorted(frozenset().union(*needs))

    def can(left: Sequence[frozenset[str]], taken: frozenset[str]) -> bool:
        return not left or any(can(left[1:], taken | {name}) for name in left[0] - taken)

    return max(count for count in range(len(everything) // len(needs) + 1) if can(list(needs) * count, frozenset()))


class TestCompleteSets:
    """How many sets of one exporter for each role there are."""

    def test_like_trying_all_ways(self) -> None:
        """In small labs the number is that of the best way there is."""
        dice = random.Random(5)
        for _ in range(300):
            exporters = [f"e{number}" for number in range(dice.randint(1, 7))]
            some = [dice.sample(exporters, dice.randint(0, len(exporters))) for _ in range(dice.randint(1, 4))]
            needs = list(map(frozenset, some))
            assert count_sets(needs) == most_sets(needs), needs

    def test_many_roles(self) -> None:
        """Forty roles that overlap are counted exactly; the 2^40 groups of them would take years."""
        roles = 40
        ring = [{f"e{(role + step) % roles}" for step in range(3)} for role in range(roles)]
        assert count_sets(ring) == 1
        doubled = [need | {f"{name}-twin" for name in need} for need in ring]
        assert count_sets(doubled) == 2
        assert count_sets([*doubled, {"e0", "e1", "e2"}]) == 1

    def test_many_exporters(self) -> None:
        """Twenty roles in a lab of a thousand exporters, which most of them share."""
        everything = {f"e{number}" for number in range(1000)}
        assert count_sets([everything] * 20) == 50
        scarce = [set(itertools.islice(sorted(everything), 30)), set(itertools.islice(sorted(everything), 50))]
        assert count_sets([*[everything] * 18, *scarce]) == 25

    def test_most(self) -> None:
        """Nobody looks for more sets than are asked for."""
        assert count_sets([{"a", "b"}, {"c", "d"}], most=1) == 1
        assert count_sets([{"a"}, {"a"}], most=1) == 0
        assert count_sets([]) == 0


class TestDisabled:
    """A disabled exporter is none that anybody could have."""

    def test_is_not_asked_for_by_name(self, bench_client: Client) -> None:
        """The least capable exporter is chosen among those that are enabled, and free."""
        assert Choice().pick(bench_client, X) == "plain"
        take(bench_client, "plain")
        until(lambda: bench_client.get_exporter("plain").status == "LEASE_READY", timeout=20)
        assert Choice().pick(bench_client, X) is None  # one is left, which the lab controller finds itself
        assert Choice().pick(bench_client, OFF) is None

    def test_is_told_to_those_who_wait(self, bench_client: Client, benched: pytest.Pytester) -> None:
        """It counts as disabled, not as one that could be given back."""
        take(bench_client, "plain")
        take(bench_client, "rich")
        result = benched.runpytest("--jmp-selector=board=x", "--jmp-wait=1s")
        result.stdout.fnmatch_lines(["*no exporter for board=x within 1.0s *: 3 match, 2 leased*"])
        assert describe_candidates(bench_client, X) == "3 match, 2 leased (by default), 0 offline, 1 disabled"

    def test_is_told_by_the_check(self, benched: pytest.Pytester) -> None:
        """It counts neither as online nor as free; where all that match are disabled the check fails."""
        result = benched.runpytest("--jmp-check", "--jmp-selector=board=x")
        assert result.ret == pytest.ExitCode.OK
        result.stdout.fnmatch_lines(["role *match  online  free*", "dut   board=x  *3       2     2"])
        result = benched.runpytest("--jmp-check", "--jmp-selector=board=off")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(
            ["dut   board=off *2       0     0", "dut: no exporter that matches *is enabled: 2 disabled", "(off-1, *"]
        )

    def test_has_not_what_a_marker_asks_for(self, benched: pytest.Pytester) -> None:
        """A test for whose marker only a disabled exporter would do is always skipped, and the check says so."""
        benched.makepyfile(
            "import pytest\n@pytest.mark.jumpstarter(labels='!can')\ndef test_it(dut): raise SystemExit('a test ran')"
        )
        result = benched.runpytest("--jmp-check", "--jmp-selector=board=x")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(["dut: no exporter for board=x matches !can, which the marker *"])

    @pytest.mark.parametrize("source", ["lab file", "lab"])
    def test_is_no_worker_s(self, pytester: pytest.Pytester, bench: Lab, source: str) -> None:
        """`-n auto` counts it in neither lab file nor lab, nor an exporter that nobody runs."""
        (pytester.path / "lab.yaml").write_text(BENCH)
        where = f"jmp_client = {bench.client_config}" if source == "lab" else "jmp_lab = lab.yaml"
        pytester.makeini(f"[pytest]\n{where}\n")
        pytester.makeconftest(
            "from pytest_jumpstarter import device_fixture\ndut = device_fixture(selector='board=x')\n"
            "old = device_fixture(selector='board=old')\noff = device_fixture(selector='board=off')"
        )
        config = pytester.parseconfigure()
        assert number_of_workers(config) == 1
        assert config.stash[NOTE].endswith("-n auto is 1; free devices: dut 2, old 0, off 0")

    @pytest.mark.parametrize("args", [(), ("-n1",)], ids=["one process", "xdist"])
    def test_is_left_out_of_each(self, benched: pytest.Pytester, args: tuple[str, ...]) -> None:
        """`--jmp-each` runs nothing on it, and says so; where all that match are disabled the run does not begin."""
        result = benched.runpytest("--jmp-each=board=x", *args)
        result.assert_outcomes(passed=2)
        result.stdout.fnmatch_lines(["jumpstarter: --jmp-each left out disabled exporters: bare"])
        result = benched.runpytest("--jmp-each=board=off", *args)
        assert result.ret not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        says = "*--jmp-each: no exporter that matches board=off is enabled: 2 disabled (off-1, off-2); ask *"
        (result.stderr if args else result.stdout).fnmatch_lines([says])

    def test_is_leased_on_demand(self, benched: pytest.Pytester) -> None:
        """One that is named can be leased with `--jmp-allow-disabled`, and the error without it says so."""
        named = "--jmp-exporter=off-1"
        result = benched.runpytest(named)
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*(ExporterDisabled); --jmp-allow-disabled leases it as it is"])
        result = benched.runpytest(named, "--jmp-check")
        result.stdout.fnmatch_lines(
            ["dut: exporter off-1 * is not enabled: 1 disabled (off-1); *", "--jmp-allow-disabled"]
        )
        benched.runpytest(named, "--jmp-allow-disabled", "--jmp-check").stdout.fnmatch_lines(["*all can get theirs"])
        benched.runpytest(named, "--jmp-allow-disabled").assert_outcomes(passed=1)
        benched.runpytest("--jmp-selector=board=off", "--jmp-allow-disabled").assert_outcomes(errors=1)

    def test_is_told_before_it_is_needed(self, benched: pytest.Pytester) -> None:
        """While other tests run, a selector that only disabled exporters match is found out and told."""
        benched.makepyfile(
            """
            import threading
            def join(name):
                for thread in threading.enumerate():
                    if thread.name == name:
                        thread.join()
            def test_1(): join("jumpstarter-imports")
            def test_2(): join("jumpstarter-connect")
            def test_3(): print("THIRD")
            def test_4(dut): pass
            """
        )
        result = benched.runpytest("-s", "-p", "no:randomly", "--jmp-selector=board=off")
        result.assert_outcomes(passed=3, errors=1)
        result.stdout.fnmatch_lines(
            [
                "*no exporter that matches board=off (--jmp-selector) is enabled: 2 disabled (off-1, off-2)*",
                "*THIRD*",
                "*no exporter can serve board=off (--jmp-selector); the lab controller says: All 2 *(AllDisabled)*",
            ]
        )

    def test_costs_no_lease(self, benched: pytest.Pytester, bench_client: Client) -> None:
        """A run gets its board by the first lease it asks for, though a disabled exporter would suit better."""
        before = {each.name for each in bench_client.list_leases(only_active=False)}
        benched.runpytest("--jmp-selector=board=x").assert_outcomes(passed=1)
        made = [each for each in bench_client.list_leases(only_active=False) if each.name not in before]
        assert [(each.exporter_name, each.exporter) for each in made] == [("plain", "plain")]


class TestOldExporters:
    """Exporters from before 0.8 tell no status."""

    @pytest.fixture
    def old(self, bench: Lab, bench_client: Client) -> Iterator[None]:
        """Join the lab with two exporters, of which one is leased by somebody."""
        with ExitStack() as stack:
            for number in (1, 2):
                joined = stack.enter_context(ManualExporter(bench.config_dir / "exporters" / f"old-{number}.yaml"))
                joined.register()
                joined.watch()
            listed = bench_client.list_exporters
            until(lambda: all(each.online for each in listed(filter="board=old")), timeout=20)
            assert {each.status for each in listed(filter="board=old")} == {"UNSPECIFIED"}
            take(bench_client, "old-1")
            yield

    @pytest.mark.usefixtures("old")
    def test_leases_tell_who_is_free(self, bench_client: Client) -> None:
        """Even where holders do not matter leases are asked for, since nothing else tells."""
        there = Availability.ask(bench_client, [OLD], with_leases=False).of(OLD)
        assert (names(there.usable), names(there.free)) == (["old-1", "old-2"], ["old-2"])
        assert str(there) == "2 match, 1 leased (by default), 0 offline"

    @pytest.mark.usefixtures("old")
    def test_none_that_is_leased_is_asked_for(self, bench_client: Client) -> None:
        """The one that has more labels is free, and the only one: nothing is to be chosen."""
        assert Choice().pick(bench_client, OLD) is None

    def test_status_is_enough(self, bench_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where status tells all, leases are listed only for who asks for holders; no selector is asked for twice."""
        asked = note_requests(bench_client, monkeypatch)
        Availability.ask(bench_client, [X], with_leases=False)
        assert asked == ["ListExporters"]
        Availability.ask(bench_client, [X, OFF, X])
        assert asked[1:] == ["ListExporters", "ListExporters", "ListLeases"]


def test_nobody_tells(bench: Lab, dead: str, tmp_path: Path) -> None:
    """Where the lab controller is away that is the answer to those who wait, and there is no hint."""
    config = tmp_path / "client.yaml"
    text = bench.client_config.read_text()
    with Client.from_config(bench.client_config) as client:
        config.write_text(text.replace(client.endpoint, dead))
    with Client.from_config(config) as client:
        assert describe_candidates(client, X).startswith("their states are unknown: ")
        assert hint_for(client, X) == ""


def test_many_leases(bench_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line during a wait costs two requests, however many leases are waiting."""
    monkeypatch.setattr(availability, "_PAGE", 2)
    names = [f"many-{secrets.token_hex(4)}" for _ in range(3)]
    for name in names:
        bench_client.create_lease(lease_id=name, exporter_name="plain", duration=60)
    asked = note_requests(bench_client, monkeypatch)
    rich = Wanted(role="dut", selector="board=x,lin=true")
    assert describe_candidates(bench_client, rich) == "1 match, 0 leased, 0 offline"
    assert asked == ["ListExporters", "ListLeases"]
    for name in names:
        bench_client.delete_lease(name)

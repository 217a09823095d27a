"""How often waiting runs, the keeper and the watch of calls ask, by a client that counts; and when not at all."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from runs import until

from pytest_jumpstarter.client.v1 import Condition, Exporter, Lease
from pytest_jumpstarter.errors import ExporterOffline, LeaseLost, LeaseTimeout, NotFound
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.leasing import polling
from pytest_jumpstarter.leasing.call_watch import PING_TIMEOUT, QUIET, CallWatch
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.health import Health
from pytest_jumpstarter.leasing.keeper import Keeper
from pytest_jumpstarter.leasing.lease import AdoptedLease
from pytest_jumpstarter.leasing.lease_request import Wanted
from pytest_jumpstarter.leasing.waiting import Waiter

PENDING = Condition(type="Pending", status=True, reason="NotAvailable", message="all are in use")
READY = Condition(type="Ready", status=True, reason="Ready", message="")
WANTED = Wanted(role="dut", selector="kind=dut", lease="lease-1", wait=1800.0)


class Counting:
    """A client that answers at once, and notes when it was asked for what."""

    name = "ci"
    has_answered = True

    def __init__(self, *, condition: Condition = READY) -> None:
        self.condition = condition
        self.is_removed = False
        self.asked: dict[str, list[float]] = {}

    def get_lease(self, name: str, **_: Any) -> Lease:
        """Return a lease in the state of `condition`."""
        self._note("GetLease")
        exporter = "board-1" if self.condition is READY else None
        return Lease(name=name, namespace="lab", client=self.name, exporter=exporter, conditions=(self.condition,))

    def get_exporter(self, name: str, **_: Any) -> Exporter:
        """Return an exporter that serves the lease, unless it was removed."""
        self._note("GetExporter")
        if self.is_removed:
            raise NotFound(f"exporter {name} not found")
        return Exporter(name=name, namespace="lab", labels={"kind": "dut"}, online=True, status="LEASE_READY")

    def list_exporters(self, *_: Any, **__: Any) -> Iterator[Exporter]:
        """List no exporter."""
        self._note("ListExporters")
        return iter(())

    def list_leases(self, *_: Any, **__: Any) -> Iterator[Lease]:
        """List no lease."""
        self._note("ListLeases")
        return iter(())

    def times(self, method: str) -> int:
        """Return how often a method was called."""
        return len(self.asked.get(method, ()))

    def _note(self, method: str) -> None:
        self.asked.setdefault(method, []).append(real_time.monotonic())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Let the pauses between polls take no time, but count."""
    clock = SimpleNamespace(now=1000.0)

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            clock.now += timeout or 0.0
            return False

    monkeypatch.setattr(real_time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(polling, "threading", SimpleNamespace(Event=Event))
    return clock


def waited(client: Counting, *, is_quiet: bool) -> tuple[list[float], list[str]]:
    """Let a run wait in vain; return when it asked for its lease, in seconds since the start, and what it said."""
    events, said = Events(), list[str]()
    events.is_quiet, events.say = is_quiet, said.append
    waiter, start = Waiter(cast("Any", client), WANTED, events), real_time.monotonic()
    with pytest.raises(LeaseTimeout):
        waiter.until_ready("lease-1")
    return [moment - start for moment in client.asked["GetLease"]], said


@pytest.mark.usefixtures("clock")
def test_pauses_of_a_run_that_waits() -> None:
    """A run asks for its pending lease every two seconds for a minute, then after a thirtieth of its wait, ± 20 %."""
    moments, said = waited(client := Counting(condition=PENDING), is_quiet=False)
    longest = {60: 2.4, 450: 15 * 1.2, 1800: 15 * 1.2}
    for before, after in pairwise(moments[:-1]):
        limit = next(seconds for end, seconds in longest.items() if before <= end)
        assert after - before <= max(limit, before / 30 * 1.2) + 0.001
        assert before < 61 or after - before >= min(max(before / 30, 2), 15) * 0.8 - 0.001
    assert moments[-1] == pytest.approx(1800)
    assert 25 < sum(moment < 60 for moment in moments) < 90
    assert sum(300 <= moment < 600 for moment in moments) == pytest.approx(300 / 13, rel=0.35)
    surveys = [moment - 1000 for moment in client.asked["ListExporters"]]
    assert len(surveys) == len(said) + 1, "one for each line, and the last for the error"
    for found, moment in zip(surveys[:5], (1, 30, 60, 120, 300), strict=True):
        assert found == pytest.approx(moment, rel=0.25, abs=3)
    assert all(80 <= after - before <= 530 for before, after in pairwise(surveys[4:-1]))


@pytest.mark.usefixtures("clock")
def test_no_survey_for_nobody() -> None:
    """With `-q` a run that waits lists exporters and leases only for the error in the end."""
    _, said = waited(client := Counting(condition=PENDING), is_quiet=True)
    assert said == []
    assert client.times("ListExporters") == 1
    assert client.asked["ListExporters"] == [pytest.approx(2800)]


def adopted(client: Counting) -> AdoptedLease:
    """Return a lease that is in use."""
    lease = AdoptedLease(cast("Any", client), WANTED, events=Events(), connector=cast("Any", None))
    lease.lease = client.get_lease("lease-1")
    client.asked.clear()
    return lease


def test_keeper_asks_for_the_exporter_on_each_third_look() -> None:
    """Of nine looks at a lease, three are at its exporter, too; the first is one of them."""
    keeper = Keeper(ttl=0.3, healths={}, events=Events())
    lease = adopted(client := Counting())
    keeper.watch(lease)
    until(lambda: client.times("GetLease") >= 9, timeout=30)
    keeper.stop()
    until(lambda: keeper._thread is not None and not keeper._thread.is_alive(), timeout=30)
    assert client.times("GetExporter") == math.ceil(client.times("GetLease") / 3)
    assert client.asked["GetExporter"][0] < client.asked["GetLease"][1]


def test_words_of_a_removed_exporter() -> None:
    """An exporter that was deleted is named as such, while its lease is awaited and while it is in use."""
    client = Counting()
    lease = adopted(client)
    client.is_removed = True
    loss = lease.look(1.0)
    assert isinstance(loss, ExporterOffline)
    assert str(loss) == "exporter board-1 was removed from the lab: exporter board-1 not found"
    waiter = Waiter(cast("Any", client), WANTED, Events())
    with pytest.raises(LeaseLost, match=r"^exporter board-1 was removed from the lab: exporter board-1 not found$"):
        waiter.until_exporter_ready(client.get_lease("lease-1"), lambda: None)


class Line:
    """A connection to an exporter, with a call that waits, and data that comes when a test says so."""

    def __init__(self) -> None:
        self.heard = -math.inf
        self.pings: list[float] = []
        self.calls = {1: time.monotonic()}

    def ping(self, _: float) -> bool:
        """Note a ping; the exporter answers it."""
        self.pings.append(time.monotonic())
        return True


def test_no_ping_while_data_comes() -> None:
    """The exporter is pinged once nothing has come for a second, and not while data comes, however long a call is."""
    line = Line()
    health = Health()
    health._connection = cast("Any", line)
    watch = CallWatch("dut", health, cast("Any", line), events=Events())
    watch.start()
    try:
        end = time.monotonic() + 3 * QUIET
        while (now := time.monotonic()) < end:
            line.heard = now
            time.sleep(QUIET / 20)
        assert line.pings == []
        until(lambda: len(line.pings) == 2, timeout=30)
    finally:
        watch.stop()
    assert line.pings[0] - line.heard >= QUIET
    assert line.pings[1] - line.pings[0] >= PING_TIMEOUT

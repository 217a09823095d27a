"""Data of runs that never were, for the page: as many tests and boards as a test wants."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from pytest_jumpstarter.report.run_data import RunData

START = 1_800_000_000.0
EACH = 6.0  # seconds from one test to the next on the same board
CONSOLE = "".join(
    f"12:00:{line % 60:02}.000 [{line / 7:9.6f}] cpu{line % 4}: booting, step {line}\n" for line in range(200)
)
TRACEBACK = """\
def test_something(dut):
    dut.power.on()
>   assert dut.read() == 5
E   assert 4 == 5

test_it.py:7: AssertionError"""


def every_25th_fails(number: int) -> str:
    """Return the outcomes of a run with some failures."""
    return "failed" if number % 25 == 7 else "passed"


def mixed(number: int) -> str:
    """Return the outcomes of a run with some of each."""
    return {3: "failed", 7: "device error", 9: "skipped"}.get(number, "passed")


def made_up(
    tests: int, boards: int, outcome: Callable[[int], str] = every_25th_fails, exit_code: int | None = None
) -> RunData:
    """
    Return what a run would have written.

    Args:
        tests: How many tests, shared out among the boards.
        boards: How many boards; 0 for a run without devices.
        outcome: Returns the outcome of a test, by its number on its board.
        exit_code: None: 1 if a test is bad, else 0.
    """
    random.seed(tests)
    leases = [_lease(board, tests // boards) for board in range(boards)]
    done = [_test(lease, number, outcome(number)) for lease in leases for number in range(tests // boards)]
    bad = any(test["outcome"] not in ("passed", "skipped", "rerun") for test in done)
    exporters = [_exporter(lease, done) for lease in leases]
    made = {
        "format": "pytest-jumpstarter-run",
        "version": 1,
        "run": {
            "start": START,
            "stop": max((lease["released"] for lease in leases), default=START) + 3,
            "exit_code": int(bad) if exit_code is None else exit_code,
            "meaning": "a test failed or has an error" if bad else "all is well",
            "ended_by": "",
            "interrupted": [],
            "never_began": [],
            "problems": [],
            "versions": {"plugin_version": "0.1.0"},
            "origin": {"ci": "github", "commit": "c0ffee", "url": "javascript:alert(1)"},
        },
        "summary": {
            "tests": dict(Counter(test["outcome"] or "none" for test in done)),
            "device_errors": sum(each["device_errors"] for each in exporters),
            "queued_seconds": 5.0 * boards,
            "held_seconds": 600.0 * boards,
            "busy_seconds": 540.0 * boards,
        },
        "exporters": exporters,
        "leases": leases,
        "states": [],
        "tests": done,
        "history": None,
    }
    return cast("RunData", made)


def with_history(data: RunData) -> RunData:
    """Add what many runs say: verdicts about the first tests, of which every other failed, and health of all boards."""
    words = "follows the board bench-01: failed 9 of 11 there, 1 of 140 on 12 siblings"
    facts = {"kind": "board", "role": "dut", "board": "bench-01", "commit": "", "p": 0.001}
    data["history"] = {
        "path": "history.db",
        "verdicts": [
            cast("Any", facts | {"test": test["id"], "words": words, "has_failed": number % 2 == 1})
            for number, test in enumerate(data["tests"][:10])
        ],
        "boards": [
            {
                "exporter": each["exporter"],
                "leases": 30,
                "device_errors": 10 * (number == 1),
                "errors_per_100": 33.3 * (number == 1),
                "ready_seconds": 41.5 if number else None,
                "slow_boots": number,
                "is_unhealthy": number == 1,
            }
            for number, each in enumerate(data["exporters"][:-1])
        ],
        "problems": ["old.db: it is not a history file"],
    }
    return data


def with_states(data: RunData) -> RunData:
    """Add the states of all boards: a transition that failed, then each state for a third of the run."""
    for lease in data["leases"]:
        start, stop = lease["ready"] or START, lease["released"] or START
        third = (stop - start) / 3
        facts = {"worker": lease["worker"], "role": lease["role"], "lease": lease["key"], "error": ""}
        for number, name in enumerate(("off", "linux-<b>", "linux-<b>")):
            began = start + number * third
            moments = {"began": began, "reached": began + third / 4, "left": began + third if number < 2 else None}
            times = {"key": f"{lease['key']}-{number}", "state": name, "came_from": "off" if number else ""}
            failed = {"reached": None, "error": "TIMEOUT: <b>nothing</b>"} if number == 1 else {}
            data["states"].append(cast("Any", facts | times | moments | failed))
    for number, test in enumerate(data["tests"]):
        for device in test["devices"]:
            device["state"] = ("off", "linux-<b>", "")[number % 3]
    return data


def _lease(board: int, tests: int) -> dict[str, Any]:
    ready = START + 5 + board % 40
    return {
        "key": f"gw{board}-1",
        "worker": f"gw{board}",
        "role": "dut" if board % 5 else "gateway",
        "lease": f"pj-1-gw{board}-1",
        "exporter": f"bench-{board:02}.rack-{board % 4}",
        "labels": {"board": "rpi4", "rack": str(board % 4)},
        "is_adopted": False,
        "hook_failures": [],
        "asked": START,
        "ready": ready,
        "connected": ready + 2,
        "prepared": ready + 9,
        "released": ready + 20 + tests * EACH,
    }


def _test(lease: dict[str, Any], number: int, outcome: str) -> dict[str, Any]:
    begin = lease["ready"] + 10 + number * EACH
    call = 3.5 + random.random()
    spans = zip(("setup", "call", "teardown"), (0, 1, 1 + call), (1, 1 + call, 1.5 + call), strict=True)
    is_bad = outcome in ("failed", "error", "device error")
    device = {name: lease[name] for name in ("role", "exporter", "labels", "lease", "key")}
    reasons = (
        "AssertionError: <script>alert(1)</script>",
        "pexpect.exceptions.TIMEOUT: 'login:' was not seen after 30.1s",
        "assert 4 == 5",
    )
    error = {
        "kind": "DeviceLost",
        "exporter": lease["exporter"],
        "lease": lease["lease"],
        "test_said": "AssertionError",
    }
    reason = f"{lease['exporter']} is offline" if outcome == "device error" else reasons[number // 25 % 3]
    return {
        "id": f"tests/test_{lease['worker'][2:]}.py::test_something_of_the_product[{number}-<b>&amp;]",
        "worker": lease["worker"],
        "attempt": 1,
        "outcome": outcome,
        "reason": reason if is_bad else "",
        "phases": {name: {"start": begin + start, "stop": begin + stop} for name, start, stop in spans},
        "devices": [device | {"wait_seconds": 0.0, "hold_seconds": 3.0, "hook_failures": [], "state": ""}],
        "transfers": [],
        "device_error": error | {"reason": reason} if outcome == "device error" else None,
        "sections": _sections(lease, number) if is_bad else {},
        "artifacts": {"root": "art", "folder": f"test {number}", "files": ["console.log"]} if is_bad else None,
        "metrics": [],
        "properties": [],
    }


def _sections(lease: dict[str, Any], number: int) -> dict[str, str]:
    noise = "".join(f"{random.randrange(1 << 64):016x}\n" for _ in range(20))  # what does not compress
    return {
        "call failed": TRACEBACK,
        "Captured stdout call": f"needle-{lease['worker']}-{number}\n{noise}",
        f"console of {lease['role']} ({lease['exporter']})": CONSOLE,
    }


def _exporter(lease: dict[str, Any], tests: list[dict[str, Any]]) -> dict[str, Any]:
    its = [test for test in tests if test["worker"] == lease["worker"]]
    return {
        "exporter": lease["exporter"],
        "labels": lease["labels"],
        "tests": len(its),
        "device_errors": sum(test["outcome"] == "device error" for test in its),
        "queued_seconds": 5.0,
        "held_seconds": 600.0,
        "busy_seconds": 540.0,
        "busy_percent": 90,
    }

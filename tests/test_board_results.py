"""Results of tests that run on a board: what the board says is what is reported, and nothing is passed by mistake."""

from __future__ import annotations

import pytest

from pytest_jumpstarter.device.board_results import READERS

UNITY = """\
I (312) main_task: Calling app_main()
---[ UNITY BEGIN ]---
Running test_sum...
C:/board/main.c:44:test_sum:PASS
./main/test_gpio.c:17:gpio keeps its level:FAIL: Expected 1 Was 0
main.c:9:test_later:IGNORE: no sensor
TEST(Buffer, Wraps) PASS
TEST(Buffer, Grows)buffer.c:80::FAIL: Expected 8 Was 4
-----------------------
5 Tests 2 Failures 1 Ignored
FAIL
"""

ZTEST = """\
*** Booting Zephyr OS build v4.1.0 ***
Running TESTSUITE clock
===================================================================
START - test_ticks
[00:00:00.010,000] <inf> clock: started
 PASS - test_ticks in 0.131 seconds
===================================================================
START - test_drift

    Assertion failed at WEST_TOPDIR/tests/clock.c:31: clock_test_drift: (4 == 5 is false)
 FAIL - test_drift in 0.002 seconds
===================================================================
START - test_rtc
 SKIP - test_rtc in 0.001 seconds
===================================================================
START - test_restart
*** Booting Zephyr OS build v4.1.0 ***
Running TESTSUITE clock
START - test_restart
 PASS - test_restart in 1.500 seconds
TESTSUITE clock failed.
Running TESTSUITE other
START - test_hangs
------ TESTSUITE SUMMARY START ------
SUITE FAIL -  50.00% [clock]: pass = 2, fail = 1, skip = 1, total = 4 duration = 0.134 seconds
 - FAIL - [clock.test_drift] duration = 0.002 seconds
------ TESTSUITE SUMMARY END ------
===================================================================
PROJECT EXECUTION FAILED
"""

KTAP = """\
[    1.200000] KTAP version 1
[    1.200001] 1..3
[    1.210000]     KTAP version 1
[    1.210001]     # Subtest: list
[    1.210002]     # module: list_test
[    1.210003]     1..3
[    1.220000]     ok 1 list_init
[    1.230000]     # list_add: EXPECTATION FAILED at lib/list-test.c:90
[    1.230001]     Expected 1 == 2, but
[    1.230002]     not ok 2 list_add
[    1.240000]         KTAP version 1
[    1.240001]         # Subtest: list_sizes
[    1.240002]         ok 1 small
[    1.240003]         ok 2 huge # SKIP not enough memory
[    1.240004]     # list_sizes: pass:1 fail:0 skip:1 total:2
[    1.240005]     ok 3 list_sizes
[    1.250000] # list: pass:2 fail:1 skip:0 total:3
[    1.250001] # Totals: pass:2 fail:1 skip:1 total:4
[    1.250002] not ok 1 list
[    1.260000]     KTAP version 1
[    1.260001]     # Subtest: crashed
[    1.260002]     1..2
[    1.260003]     ok 1 first
[    1.270000] ok 2 crashed
[    1.280000] not ok 3 - alone # TODO known
[    1.290000] usb 1-1: new high-speed USB device
"""

TAP = """\
TAP version 13
# Starting 2 tests from 1 test cases.
#  RUN           rtc.date ...
# rtctest.c:464:date:Expected 1 == 2
not ok 1 rtc.date
ok 2 - rtc.alarm
1..2
"""


def told(form: str, text: str) -> tuple[list[tuple[str, str, str]], bool]:
    """Return name, outcome and first words of the message of each result, and whether the last line was found."""
    reader = READERS[form]()
    for line in text.splitlines():
        assert not reader.is_over or line.strip() in ("FAIL", "OK") or "usb 1-1" in line
        if not reader.is_over:
            reader.read(line)
    return [(each.name, each.outcome, each.message) for each in reader.results], reader.is_over


def test_unity() -> None:
    """Unity's lines and those of its fixtures; names may have spaces, paths may have drives."""
    assert told("unity", UNITY) == (
        [
            ("test_sum", "passed", ""),
            ("gpio keeps its level", "failed", "Expected 1 Was 0"),
            ("test_later", "skipped", "no sensor"),
            ("Buffer.Wraps", "passed", ""),
            ("Buffer.Grows", "failed", "Expected 8 Was 4"),
        ],
        True,
    )


def test_secret_where_a_message_is_cut() -> None:
    """Of a secret at the place where a long message is cut, nothing is left."""
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ0In0.c2lnbmF0dXJlMQ"
    [(_, _, message)], _ = told("unity", f"main.c:4:test_it:FAIL: {'.' * 1960} {token} and more\n")
    assert len(message) < 2000
    assert "eyJ" not in message


def test_ztest() -> None:
    """Names have their suite, failures their assertion; a test that never ended failed, one that restarts does not."""
    results, is_over = told("ztest", ZTEST)
    assert is_over
    assert [each[:2] for each in results] == [
        ("clock.test_ticks", "passed"),
        ("clock.test_drift", "failed"),
        ("clock.test_rtc", "skipped"),
        ("clock.test_restart", "passed"),
        ("other.test_hangs", "failed"),
    ]
    assert results[1][2].endswith("(4 == 5 is false)")
    assert results[4][2].startswith("the run ended before it did")


def test_ktap() -> None:
    """Suites and their tests at any depth, as messages of the kernel; a plan that was not fulfilled is a failure."""
    results, is_over = told("ktap", KTAP)
    assert is_over
    assert [each[:2] for each in results] == [
        ("list.list_init", "passed"),
        ("list.list_add", "failed"),
        ("list.list_sizes.small", "passed"),
        ("list.list_sizes.huge", "skipped"),
        ("crashed.first", "passed"),
        ("crashed.plan", "failed"),
        ("alone", "passed"),
    ]
    assert results[1][2].startswith("list_add: EXPECTATION FAILED")
    assert results[5][2] == "1 of 2 tests ended"


def test_tap() -> None:
    """Plain TAP, with its plan at the end."""
    results, is_over = told("ktap", TAP)
    assert is_over
    assert [each[:2] for each in results] == [("rtc.date", "failed"), ("rtc.alarm", "passed")]
    assert "Expected 1 == 2" in results[0][2]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("unity", "a.c:1:one:PASS\n3 Tests 0 Failures 0 Ignored\n"),
        ("unity", "2 Tests 1 Failures 0 Ignored\n"),
        ("ztest", "PROJECT EXECUTION FAILED\n"),
        ("ztest", "START - a\nSTART - b\n PASS - b in 0.1 seconds\nPROJECT EXECUTION SUCCESSFUL\n"),
        ("ktap", "1..1\n  1..2\n  ok 1 a\nnot ok 1 suite\n"),
        ("ktap", "1..2\nok 1 a\nBail out! no board\n"),
        ("ktap", "1..1\n  ok 1 a\nnot ok 1 suite\n"),
    ],
)
def test_what_is_missing_failed(form: str, text: str) -> None:
    """A summary, a plan or a suite that says more than was seen makes a failure."""
    results, is_over = told(form, text)
    assert is_over
    assert "failed" in {outcome for _, outcome, _ in results}


def test_nothing_to_run() -> None:
    """A plan of no tests is skipped, with its reason."""
    assert told("ktap", "1..0 # SKIP no such device\n") == ([("plan", "skipped", "no such device")], True)

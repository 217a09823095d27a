"""Programs that see a part of a report only, such as editors, get the result of the last attempt, and the board."""

from __future__ import annotations

import pytest

# What the plugin of Visual Studio Code does, in our own words: of a test it shows the first result that it sees, in
# these hooks; it runs pytest with `-p`, its own plugin, and the ids of the tests that people chose.
EDITOR = """
    import pytest

    shown = {}

    def show(nodeid, result, text=""):
        if shown.setdefault(nodeid.rpartition("::")[2], result) is result and text:
            print("TEXT", result, repr(text))

    @pytest.hookimpl(hookwrapper=True, trylast=True)
    def pytest_runtest_protocol(item):
        if any(mark.name == "skip" for mark in item.own_markers):
            show(item.nodeid, "skipped")
        yield

    @pytest.hookimpl(hookwrapper=True, trylast=True)
    def pytest_report_teststatus(report):
        if report.when == "call" or (report.when == "setup" and report.skipped):
            result = "success" if report.passed else "failure" if report.failed else "skipped"
            show(report.nodeid, result, report.longreprtext if report.failed else "")
        yield

    def pytest_exception_interact(node, call, report):
        result = "failure" if call.excinfo.typename == "AssertionError" else "error"
        show(node.nodeid, result, report.longreprtext)

    def pytest_sessionfinish(exitstatus):
        print("SHOWN", shown, exitstatus)
"""


def test_an_editor_shows_the_last_attempt(suite: pytest.Pytester) -> None:
    """A test that `--jmp-retries` saved has passed; the text of a failure, or of a loss, names exporter and lease."""
    suite.makepyfile(editor=EDITOR)
    suite.syspathinsert()
    suite.makepyfile(
        test_it="""
        import pytest

        lost = []

        def test_lost(dut, jumpstarter):
            jumpstarter.client.delete_lease(dut.lease.name)
            while True:
                dut.power.on()

        def test_skips(dut): pytest.skip("not today")

        @pytest.mark.skip
        def test_skipped(dut): pass

        @pytest.fixture
        def broken(dut): raise LookupError("no relay")

        def test_broken(broken): pass

        def test_saved(dut, jumpstarter):
            if not lost:
                lost.append(1)
                jumpstarter.client.delete_lease(dut.lease.name)
                while True:
                    dut.power.on()

        def test_fails(dut):
            assert dut is None
        """
    )
    names = ("lost", "skips", "skipped", "broken", "saved", "fails")
    ids = [f"{suite.path / 'test_it.py'}::test_{name}" for name in names]
    ours = ("--jmp-selector=board=virtual", "--jmp-retries=1")
    result = suite.runpytest_subprocess("-p", "editor", f"--rootdir={suite.path}", "-s", *ours, *ids)
    shown = ("failure", "skipped", "skipped", "error", "success", "failure")
    found = {f"test_{name}": each for name, each in zip(names, shown, strict=True)}
    result.stdout.fnmatch_lines_random(
        [
            "*TEXT failure *dut: exporter board-?, lease pj-*device error: lease pj-* has ended*",
            "*TEXT error *LookupError: no relay*dut: exporter board-?, lease pj-*",
            "*TEXT failure *dut: exporter board-?, lease pj-*",
        ]
    )
    (line,) = (line for line in result.outlines if "SHOWN {" in line)
    assert eval(line.partition("SHOWN ")[2].rpartition(" ")[0]) == found

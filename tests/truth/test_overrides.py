"""A fixture that has only the name of a board: no verdict crosses over between its tests and those of the board."""

from __future__ import annotations

import re

import pytest

from .inner import DEVICE_ERROR, EXIT_CODE, Bench, Seen, assert_device_error, assert_nothing_of_a_board

# Files of a folder whose tests have no board, though they ask for `dut`; the word after `test_` is how each one ends.
PLAIN = {
    "test_class.py": """
        import pytest
        class TestSimulator:
            @pytest.fixture
            def dut(self):
                return "a simulator"
            def test_passed(self, dut):
                assert dut.startswith("a simulator")
            def test_failed(self, dut):
                assert dut is None
            def test_failed_by_a_timeout(self, dut):
                raise TimeoutError("the simulator did not answer")
            @pytest.mark.xfail
            def test_xfailed(self, dut):
                assert dut is None
            def test_skipped(self, dut):
                pytest.skip("no need of it")
            def test_passed_by_a_lookup(self, request):
                assert request.getfixturevalue("dut") == "a simulator"
        class TestParameters:
            @pytest.fixture(params=["simulator", "emulator"])
            def dut(self, request):
                return request.param
            def test_passed(self, dut):
                assert dut.endswith("ator")
    """,
    "test_module.py": """
        import pytest
        @pytest.fixture(scope="module")
        def dut():
            yield "a simulator"
        @pytest.fixture
        def powered(dut):
            return dut
        def test_passed(powered):
            assert powered == "a simulator"
        def test_failed(powered):
            assert powered is None
    """,
    "test_parameter.py": """
        import pytest
        @pytest.mark.parametrize("dut", ["simulator"])
        def test_passed(dut):
            assert dut == "simulator"
        @pytest.mark.parametrize("dut", ["simulator"])
        def test_failed(dut):
            assert dut is None
    """,
    "folder/conftest.py": """
        import pytest
        @pytest.fixture(scope="session")
        def dut():
            return "a simulator"
    """,
    "folder/test_folder.py": """
        def test_passed(dut):
            assert dut == "a simulator"
        def test_failed(dut):
            assert dut is None
        def test_passed_by_a_lookup(request):
            assert request.getfixturevalue("dut") == "a simulator"
    """,
    "test_other_role.py": """
        import pytest
        from pytest_jumpstarter import device_fixture
        gateway = device_fixture(selector="kind=dut,!gateway", scope="module")
        @pytest.fixture
        def dut(gateway):
            return gateway
        def test_passed(dut):
            dut.power.on()
            assert dut.role == "gateway"
    """,
}
REAL = """
    def test_passed(dut):
        dut.power.on()
    def test_passed_by_a_lookup(request):
        request.getfixturevalue("dut").power.on()
"""
LOST = """
    from harm import lose_in_a_call
    def test_errored(dut):
        lose_in_a_call(dut)
"""
AFTER = """
    import pytest
    @pytest.fixture
    def powered(dut):
        return dut
    class TestReal:
        @pytest.fixture
        def dut(self, dut):
            return dut
        def test_errored(self, dut): pass
    def test_errored(dut): pass
    def test_errored_through_a_fixture(powered): pass
    def test_errored_by_a_lookup(request):
        request.getfixturevalue("dut")
"""


def folder(number: int) -> dict[str, str]:
    """Return the files without a board, in a folder of this number."""
    return {f"{number}_plain/{name}": text for name, text in PLAIN.items()}


FILES = {
    **folder(1),
    "2_real/test_real.py": REAL,
    **folder(3),
    "4_lost/test_lost.py": LOST,
    **folder(5),
    "6_after/test_after.py": AFTER,
    **folder(7),
}
"""In this order: before the board, while it stands, and after its loss."""


def ends_of(files: dict[str, str]) -> dict[str, str]:
    """Return the end of each test function of these files, by the start of its id."""
    found = {}
    for name, text in files.items():
        owner = ""
        for line in text.splitlines():
            if (start := re.match(r"        class (\w+)|    class (\w+)", line)) is not None:
                owner = f"{start[1] or start[2]}::"
            elif (test := re.match(r"( *)def (test_([a-z]+)\w*)", line)) is not None:
                is_method = line.split("(")[1].startswith("self")
                end = DEVICE_ERROR if test[3] == "errored" else test[3]
                found[f"{name}::{owner if is_method else ''}{test[2]}"] = end
    return found


@pytest.fixture(scope="module")
def seen(bench: Bench) -> Seen:
    """Run tests with and without boards under one name, in both orders."""
    return bench.run(FILES, "--import-mode=importlib", "--jmp-artifacts=out")


@pytest.mark.parametrize(("test", "end"), ends_of(FILES).items(), ids=lambda word: word.replace("::", "-"))
def test_no_verdict_crosses_over(seen: Seen, test: str, end: str) -> None:
    """Each test ends as its name says, and has a board or none."""
    records = [each for each in seen.run["tests"] if re.fullmatch(rf"{re.escape(test)}(\[\w+\])?", each["id"])]
    assert records
    for record in records:
        assert record["outcome"] == end, record["reason"]
        if "test_other_role" in test:
            assert [device["role"] for device in record["devices"]] == ["gateway"]
        elif "_plain" in test:
            assert_nothing_of_a_board(seen, record["id"])
        elif end == DEVICE_ERROR:
            assert_device_error(seen, record["id"])


def test_count(seen: Seen) -> None:
    """The board that was lost counts the device errors of its own tests, and nobody else's."""
    (lost,) = seen.record("4_lost/test_lost.py::test_errored")["devices"]
    errors = sum(end == DEVICE_ERROR for end in ends_of(FILES).values())
    assert seen.table()[lost["exporter"]][1] == errors
    assert seen.run["summary"]["device_errors"] == errors


def test_exit_code(bench: Bench) -> None:
    """Where all tests without a board end well, the exit code is that of device errors alone."""
    seen = bench.run(FILES, "--import-mode=importlib", "-k", "not test_failed")
    assert seen.code == EXIT_CODE, seen.last


def test_real_one_below(bench: Bench) -> None:
    """A real board in a sub-folder, where the whole suite has a plain fixture of that name, is that folder's only."""
    plain = PLAIN["folder/test_folder.py"]
    real = "from pytest_jumpstarter import device_fixture\ndut = device_fixture(selector='kind=dut')"
    files = {
        "conftest.py": PLAIN["folder/conftest.py"],
        "1_plain/test_folder.py": plain,
        "2_real/conftest.py": real,
        "2_real/test_lost.py": LOST,
        "2_real/test_after.py": AFTER,
        "2_real/test_class.py": PLAIN["test_class.py"],
        "3_plain/test_folder.py": plain,
    }
    seen = bench.run(files, "--import-mode=importlib")
    ends = {re.sub(r"\[\w+\]", "", each["id"]): each["outcome"] for each in seen.run["tests"]}
    expected = ends_of(files)
    lost_last = {test: "passed" for test in expected if "test_after" in test}  # these ran before the loss
    assert ends == expected | lost_last
    for each in seen.run["tests"]:
        is_real = "test_lost" in each["id"] or "test_after" in each["id"]
        assert bool(each["devices"]) == is_real


INNOCENT = """
    import time
    import pytest
    from harm import lose
    def test_real(dut):
        lose(dut)
    class TestSimulator:
        @pytest.fixture
        def dut(self):
            return "a simulator"
        def test_sleeps(self, dut):
            time.sleep(9)
    @pytest.mark.parametrize("dut", ["a simulator"])
    def test_after(dut):
        assert dut == "a simulator"
    def test_last(dut): pass
"""


def test_innocent_test_is_not_interrupted(bench: Bench) -> None:
    """A test without a board that runs while a board is found lost goes on for as long as it likes."""
    seen = bench.run({"test_it.py": INNOCENT}, "--jmp-ttl=6s")
    assert seen.outcome("test_it.py::TestSimulator::test_sleeps") == "passed"
    assert seen.outcome("test_it.py::test_after[a simulator]") == "passed"
    assert seen.outcome("test_it.py::test_last") == DEVICE_ERROR
    assert seen.code == EXIT_CODE
    assert_nothing_of_a_board(seen, "test_it.py::TestSimulator::test_sleeps")

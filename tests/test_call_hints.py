"""What is shown of calls that are wrong: the line of the test, and what was probably meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_jumpstarter.evidence.call_hints import add_hint

SUITE = """
    import pytest

    def test_method(dut): dut.power.onn()
    def test_no_such_thing(dut): dut.power.teleport()
    def test_shell(dut): dut.relay.cycle()
    def test_config(dut): dut.relay.of()
    def test_console(console): console.expct("x")
    def test_own_class(dut):
        class Own:
            on = 1
        Own().onn
    def test_private(dut): dut.power._on
    def test_file(dut):
        open("image.bin", "w").close()
        dut.storage.flash("imagee.bin")
    def test_folder(dut): dut.storage.flash("nowhere/image.bin")
    def test_wrong_type(dut): dut.power.cycle(wait="soon")
    def test_assert(dut):
        dut.power.on()
        assert 1 == 2
"""
LAB = """
metadata: {name: hints-1, labels: {kind: dut}}
export:
  board: {type: pytest_jumpstarter.lab.board.VirtualBoard}
  power: {ref: board.power}
  console: {ref: board.console}
  storage: {ref: board.storage}
  relay: {type: jumpstarter_driver_shell.driver.Shell, config: {methods: {"on": "true", "off": "true"}}}
"""


class Odd:
    """A class without the name of a module, as generated code makes them."""


def test_no_hint_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the current folder is gone, or a class is odd, an error stays as it is."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    monkeypatch.setattr(Odd, "__module__", None)
    for error in (FileNotFoundError(2, "no such file", "image.bin"), AttributeError("x", name="x", obj=Odd())):
        add_hint(error)
        assert not hasattr(error, "__notes__")


def test_wrong_calls(suite: pytest.Pytester) -> None:
    """Each error is shown at the line of the test, with a hint if one is known, without the code of driver clients."""
    suite.path.joinpath("own-lab.yaml").write_text(LAB)
    suite.makeini("[pytest]\njmp_selector = kind=dut\njmp_lab = own-lab.yaml\n")
    suite.makepyfile(SUITE)
    result = suite.runpytest()
    result.assert_outcomes(failed=11)
    text = result.stdout.str()
    shown = dict(re.findall(r"^_+ (test_\w+) _+$\n(.*?)(?=^[-_=]{3})", text, re.DOTALL | re.MULTILINE))
    assert len(shown) == 11
    power = "PowerClient has cycle, off, on, read, rescue"
    folder = suite.path.resolve()
    for test, hint in {
        "test_method": f"E   did you mean 'on'? {power}",
        "test_no_such_thing": f"E   {power}",
        "test_shell": "E   this driver cannot cycle the power: call off(), wait, then call on()",
        "test_config": "E   did you mean 'off'?",
        "test_console": "E   did you mean 'expect'?",
        "test_file": f"E   on this machine there is no file {folder}/imagee.bin; did you mean 'image.bin'?",
        "test_folder": f"E   on this machine there is no folder {folder}/nowhere",
    }.items():
        assert re.search(f"^{re.escape(hint)}", re.sub(r"^E +", "E   ", shown[test], flags=re.MULTILINE), re.MULTILINE)
    for test in ("test_own_class", "test_private"):
        assert " has " not in re.sub("has no attribute", "", shown[test])
    for test in ("test_file", "test_folder", "test_wrong_type"):
        assert re.search("^>.*dut[.](storage|power)", shown[test], re.MULTILINE)
        assert "site-packages" not in shown[test]
        assert len(shown[test].splitlines()) < 25
    assert "assert 1 == 2" in shown["test_assert"]
    assert "site-packages" in suite.runpytest("-vv", "-k", "test_wrong_type").stdout.str()

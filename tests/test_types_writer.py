"""`python -m pytest_jumpstarter.types` writes classes of typed boards from what exporters serve."""

from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import VIRTUAL_BOARD, exporter_document
from runs import HEEDING_SIGNALS, occupied, wait_for

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.device.drivers import DriverPlace
from pytest_jumpstarter.lab import Lab
from pytest_jumpstarter.types.__main__ import main
from pytest_jumpstarter.types.class_writer import ClassWriter
from pytest_jumpstarter.types.exporter_trees import ExporterTree

MOCK_POWER = "{type: jumpstarter_driver_power.driver.MockPower}"
RACK = f"""\
  rack:
    type: jumpstarter_driver_composite.driver.Composite
    children:
      port1:
        type: jumpstarter_driver_composite.driver.Composite
        children:
          power: {MOCK_POWER}
          close: {MOCK_POWER}
  my-relay: {MOCK_POWER}
  client: {MOCK_POWER}
"""
USE = """
from boards import Rack, Rpi4

def test_board(dut: Rpi4, rack: Rack) -> None:
    dut.board.storage.flash("image")
    rack.rack.port1.power.on()
    rack.rack.port1.power.onn()
    rack.rack.port2
    dut.rack
"""


def test_a_lab_file_becomes_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A class for each kind of exporter; Pyright checks drivers in drivers, and finds nothing wrong in the file."""
    exporters = [
        exporter_document("rpi4-01", "board: rpi4", VIRTUAL_BOARD),
        exporter_document("rpi4-02", "board: rpi4", VIRTUAL_BOARD),
        exporter_document("rack-1", "board: rack", RACK),
        exporter_document("nobody-1", "board: absent", None),
    ]
    (tmp_path / "lab.yaml").write_text("---\n".join(exporters))
    assert main([str(tmp_path / "lab.yaml"), "-o", str(tmp_path / "boards.py")]) == 0
    shown = capsys.readouterr().err.splitlines()
    assert shown == [
        "types: exporter nobody-1 is left out: the lab does not run it itself",
        f"types: {tmp_path}/boards.py: Rack, Rpi4",
    ]
    text = (tmp_path / "boards.py").read_text()
    assert '    """The drivers of rpi4-01 and rpi4-02."""\n' in text
    assert "    # 'my-relay': no name of an attribute; use drivers['my-relay']\n" in text
    assert "    # 'client': a member of every device; use drivers['client']\n" in text
    assert "        # 'close': a member of every client; use drivers['rack.port1.close']\n" in text
    pytest.importorskip("basedpyright")
    (tmp_path / "use.py").write_text(USE)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "standard"}))
    command = [
        sys.executable,
        "-m",
        "basedpyright",
        "--outputjson",
        "--pythonpath",
        sys.executable,
        "use.py",
        "boards.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    errors = [each for each in json.loads(done.stdout)["generalDiagnostics"] if each["severity"] == "error"]
    found = [(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in errors]
    assert found == [("use.py", 7), ("use.py", 8), ("use.py", 9)], done.stdout


def test_an_exporter_of_a_lab_becomes_a_class(lab: Lab, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    """A selector leases one exporter that matches, and gives it back; the text is written to standard output."""
    assert main(["kind=dut", "--client", str(lab.client_config), "--name", "Rpi4"]) == 0
    names: dict[str, Any] = {}
    exec(capsys.readouterr().out, names)  # it is what users import
    assert [*names["Rpi4"].__annotations__] == ["board", "power", "storage"]
    assert list(client.list_leases()) == []


def test_ctrl_c_gives_the_board_back(
    lab: Lab, client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C while a board is leased ends the program without a traceback, and the board is free."""

    def interrupted(*_: object) -> None:
        assert list(client.list_leases())
        raise KeyboardInterrupt

    monkeypatch.setattr("pytest_jumpstarter.types.exporter_trees.ExporterTree.__new__", interrupted)
    assert main(["kind=dut", "--client", str(lab.client_config)]) == 130
    assert capsys.readouterr().out == ""
    assert list(client.list_leases()) == []


def test_a_signal_ends_the_wait_for_a_board(lab: Lab, client: Client) -> None:
    """After SIGTERM in the queue, as from a CI system, no request for a board is left."""
    command = [*HEEDING_SIGNALS, sys.executable, "-m", "pytest_jumpstarter.types"]
    command += ["kind=dut", "--client", str(lab.client_config)]
    with occupied(client) as other, subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(process.stderr, "waiting")
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
        assert [lease.name for lease in client.list_leases()] == [other.name]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.yaml"], "there is no lab file none.yaml"),
        (["a b"], "selector 'a b' does not parse"),
        (["kind=dut", "--client", "nobody"], "nobody"),
        ([str(Path(__file__)), "--wait", "1s"], "test_types_writer.py"),
    ],
)
def test_errors_are_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong is said in one line on standard error, with exit code 2."""
    assert main(arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("types: ")
    assert words in line


def tree(exporter: str, **classes: str) -> ExporterTree:
    """Return an exporter with these drivers at its root."""
    places = {name: DriverPlace(parent="", name=name, uuid=name, class_path=path) for name, path in classes.items()}
    return ExporterTree(exporter, places)


def names_in(text: str) -> list[str]:
    """Return the names of the classes in a module; all else in it are imports, annotations, texts and an if."""
    nodes = list(ast.walk(ast.parse(text)))
    assert not [node for node in nodes if isinstance(node, ast.Call | ast.Assign | ast.FunctionDef)]
    return [node.name for node in nodes if isinstance(node, ast.ClassDef)]


def test_words_of_exporters_are_no_code() -> None:
    """Names and class paths that are no Python names become comments, and none can add code."""
    evil = tree(
        'x"""\nimport os', **{"a\nimport os": "os.system", "b": "os;import os", "c": "x", "_d": "a.b", "if": "a.b"}
    )
    evil = evil._replace(places={**evil.places, "e": DriverPlace("", "e", "e", "a.b\nimport os")})
    writer = ClassWriter()
    writer.add([evil])
    text = writer.text()
    assert names_in(text) == ["XImportOs"]
    assert "import os" not in [line.strip() for line in text.splitlines()]
    assert "    b: Any\n    c: Any\n" in text


def test_names_that_occur_twice_get_numbers() -> None:
    """Classes of one name from several packages, of several kinds, or of a name that the file uses, do not clash."""
    writer = ClassWriter()
    first = tree("board-1", power="a.client.PowerClient", other="b.client.PowerClient", any="c.client.Any")
    names = [
        writer.add([first]),
        writer.add([tree("power-client")]),
        writer.add([tree("board-1")]),
        writer.add([tree("96-a")]),
    ]
    assert names == ["Board1", "PowerClient3", "Board12", "Board96A"]
    text = writer.text()
    compile(text, "boards.py", "exec")
    assert names_in(text) == names
    assert "    from b.client import PowerClient as PowerClient2\n" in text
    assert "    from c.client import Any as Any2\n" in text


@pytest.mark.parametrize(
    ("exporters", "name"),
    [
        (["rpi4-01"], "Rpi4"),
        (["rpi4-01", "rpi4-02"], "Rpi4"),
        (["rack-a-rpi", "rack-a-rpj"], "RackA"),
        (["board-1", "gateway-1"], "Board1"),
        (["board-1", "board-2"], "Board1"),
        (["7"], "Board7"),
        (["--"], "Rig"),
    ],
)
def test_a_class_is_named_after_its_exporters(exporters: list[str], name: str) -> None:
    """The name is what the names have in common, without numbers; else that of the first one."""
    assert ClassWriter().add([tree(each) for each in exporters]) == name

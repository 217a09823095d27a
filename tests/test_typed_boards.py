"""Typed boards: type checkers and editors know the drivers, and a device is really of its class."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import copytree
from typing import Annotated, ClassVar, Optional, Union

import pytest

from pytest_jumpstarter import Board, Device, device_fixture
from pytest_jumpstarter.device.board import declared_drivers
from pytest_jumpstarter.device.device import connected

EXAMPLE = Path(__file__).parents[1] / "examples" / "everyday"

MISTAKES = """
from boards import Product
from pytest_jumpstarter import Device, device_fixture
dut = device_fixture(Product, selector="kind=dut")
def helper(device: Device) -> None: ...
def test_board(dut: Product) -> None:
    dut.power.on()
    helper(dut)
    dut.power.onn()
    dut.powr.on()
    dut.exporter.name.upper()
    dut.exporter.nam
"""
WRONG_LINES = [9, 10, 12]
TYPED = ("boards.py", "conftest.py", "test_boot.py", "test_mistakes.py")

BOARDS = """
from __future__ import annotations
from typing import TYPE_CHECKING
from pytest_jumpstarter import Board
if TYPE_CHECKING:
    from jumpstarter_driver_power.client import PowerClient
    from jumpstarter_driver_pyserial.client import PySerialClient
    from driver_package_that_is_not_installed import UStreamerClient

class Rpi4(Board):
    power: PowerClient
    serial: PySerialClient | None

    def restart(self) -> str:
        self.power.off()
        self.power.on()
        return f"{self.role} restarted"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of the example, with a test that makes mistakes."""
    copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "test_mistakes.py").write_text(MISTAKES)
    return tmp_path


def test_mypy_finds_wrong_names(project: Path) -> None:
    """In strict mode, mypy finds drivers and methods that do not exist, and nothing else."""
    pytest.importorskip("mypy")
    options = ("--strict", "--no-error-summary", "--follow-imports=silent", "--cache-dir=/dev/null")
    command = [sys.executable, "-m", "mypy", *options, *TYPED, "test_linux.py"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    found = [line.split(":")[:2] for line in done.stdout.splitlines() if ": error:" in line]
    assert found == [["test_mistakes.py", str(number)] for number in WRONG_LINES], done.stdout + done.stderr
    assert '"Product" has no attribute "powr"' in done.stdout


def test_pyright_finds_wrong_names(project: Path) -> None:
    """Pyright finds the same; it refuses Jumpstarter's own type of `TcpPortforwardAdapter` in test_linux.py."""
    pytest.importorskip("basedpyright")
    (project / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "standard"}))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, *TYPED]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    errors = [each for each in json.loads(done.stdout)["generalDiagnostics"] if each["severity"] == "error"]
    found = [(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in errors]
    assert found == [("test_mistakes.py", number) for number in WRONG_LINES], done.stdout
    assert 'Cannot access attribute "powr" for class "Product"' in errors[1]["message"]


def test_editors_offer_drivers(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `dut.`, an editor offers the drivers and the public members of a device, and nothing else of ours."""
    jedi = pytest.importorskip("jedi")
    monkeypatch.setattr(jedi.settings, "cache_directory", str(project / "cache"))
    code = "from boards import Product\ndef test_board(dut: Product):\n    dut."
    jedi_project = jedi.Project(project, added_sys_path=[str(Path(__file__).parents[1])])
    completions = jedi.Script(code, path=project / "test_new.py", project=jedi_project).complete(3, 8)
    offered = {each.name for each in completions if not each.name.startswith("_")}
    assert offered == {"power", "serial", "http", "storage"} | {
        name for name in dir(Device) if not name.startswith("_")
    }
    of_driver = jedi.Script(f"{code}power.", path=project / "test_new.py", project=jedi_project).complete(3, 14)
    assert {"on", "off", "cycle"} <= {each.name for each in of_driver}


def test_a_device_is_of_its_class(suite: pytest.Pytester) -> None:
    """The fixture yields an object of the class: drivers, its methods, optional drivers, hooks, and sets of devices."""
    suite.makepyfile(
        boards=BOARDS.replace("serial: Py", "storage: Py").replace("    storage", "    camera: X | None\n    storage")
    )
    suite.makeconftest(
        """
        from boards import Rpi4
        from pytest_jumpstarter import device_fixture
        dut = device_fixture(Rpi4)
        gateway = device_fixture(Rpi4, selector="kind=gateway", scope="function")
        seen = []
        def pytest_jumpstarter_device_ready(device):
            seen.append(device)
        """
    )
    suite.makepyfile(
        """
        import pytest
        from boards import Rpi4
        from conftest import seen
        from pytest_jumpstarter import Device

        def test_class(dut):
            assert type(dut) is Rpi4 and isinstance(dut, Device) and repr(dut).startswith("<Rpi4 dut (board-1)")
            assert dut.restart() == "dut restarted"
            dut.note = 1

        def test_drivers(dut):
            assert dut.note == 1  # one object as long as the fixture lives
            assert dut.power is dut.drivers["power"] and dut.storage is not None
            assert dut.camera is None
            with pytest.raises(AttributeError, match="has no driver 'powr'.*did you mean 'power'"):
                dut.powr
            assert {"power", "storage", "board", "console", "restart"} <= set(dir(dut))
            assert not [name for name in dir(dut) if name.startswith("_") and not name.startswith("__")]

        def test_two(dut, gateway):
            assert (dut.exporter.name, gateway.exporter.name) == ("board-1", "board-2")
            assert gateway.restart() == "gateway restarted"

        def test_hooks_get_a_device():
            assert [(type(each), each.role) for each in seen] == [(Device, "dut"), (Device, "gateway")]
        """
    )
    suite.runpytest("--jmp-order=off").assert_outcomes(passed=4)


def test_a_board_without_a_declared_driver(suite: pytest.Pytester) -> None:
    """A test is skipped if its board lacks a driver that its class requires, also one that a base class declares."""
    suite.makeconftest(
        """
        from pytest_jumpstarter import Board, device_fixture
        class WithPower(Board):
            powr: object
        class Rpi4(WithPower):
            camera: "object"
        dut = device_fixture(Rpi4, requires=["console"])
        """
    )
    suite.makepyfile("def test_a(dut): pass")
    result = suite.runpytest("-rs")
    result.assert_outcomes(skipped=1)
    reason = "lacks what the test needs: no driver 'powr' (did you mean 'power'?), no driver 'camera'"
    assert reason in " ".join(result.stdout.str().split())


REQUIRED = ("Client", "'Client'", "client.Client", "Client[None]", "what is this", int)
OPTIONAL = (
    *(
        "Client | None",
        "None | Client",
        "'Client | None'",
        "A | (B | None)",
        "Optional[Client]",
        "typing.Optional['X']",
    ),
    *("Union[None, Client]", "t.Union['Client | None', B]", "Annotated[Client | None, 1]", "None"),
    *(int | None, Optional[int], Optional["Client"], Union[str, None], Annotated[int | None, 1]),  # noqa: F821, UP007, UP045
)
NO_DRIVERS = ("ClassVar[int]", "typing.ClassVar", "'ClassVar[int]'", "Final[int]", ClassVar[int], ClassVar)


def test_annotations_are_read_but_never_evaluated() -> None:
    """Every way to write that a driver may be missing is understood; what is no driver does not count."""

    def declared(annotation: object) -> Mapping[str, bool]:
        return declared_drivers(type("Rpi4", (Board,), {"__annotations__": {"power": annotation}}))

    assert {str(each): declared(each) for each in REQUIRED} == {str(each): {"power": True} for each in REQUIRED}
    assert {str(each): declared(each) for each in OPTIONAL} == {str(each): {"power": False} for each in OPTIONAL}
    assert {str(each): declared(each) for each in NO_DRIVERS} == {str(each): {} for each in NO_DRIVERS}


def test_attributes_with_a_value_are_no_drivers() -> None:
    """Private names, and attributes that the class itself has, are no drivers."""

    class Rpi4(Board):
        _retries: int
        baud: int = 115200
        power: object

    assert declared_drivers(Rpi4) == {"power": True}


@pytest.mark.parametrize("name", [name for name in dir(Device) if not name.startswith("_")])
def test_members_of_a_device_cannot_be_declared(name: str) -> None:
    """A driver with the name of a member would be hidden by it, so its annotation is refused with what to do."""
    with pytest.raises(TypeError, match=rf"Rpi4\.{name}: every device has a member '{name}'.*use drivers\['{name}'\]"):
        type("Rpi4", (Board,), {"__annotations__": {name: "PowerClient"}})


@pytest.mark.parametrize("given", ["board=rpi4", Device, int, 3])
def test_something_else_than_a_board_is_refused(given: object) -> None:
    """The first argument of `device_fixture` is a class of a board; for a selector, the message says how to give it."""
    with pytest.raises(TypeError, match="is not a class derived from Board") as raised:
        device_fixture(given)  # type: ignore[call-overload]
    assert ("selector='board=rpi4'" in str(raised.value)) == isinstance(given, str)


def test_connected_is_shared() -> None:
    """Both handles of one device, that of hooks and that of tests, have the same state behind them."""
    device = Device(object())  # type: ignore[arg-type]
    assert connected(type("Rpi4", (Board,), {})(connected(device))) is connected(device)

"""Lab files that are broken or missing, and exporters that do not start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from . import runs
from .runs import leave_no_process, one_error

HEAD = runs.HEAD.replace("badly-1", "worse-1")  # another module may serve a badly-1 at this moment


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}export: [}}", "lab.yaml:4: this is not YAML"),
        (f"{HEAD}---\n{HEAD}", "lab.yaml:5: exporter 'worse-1' is already in "),
        (f"{HEAD}exports: {{}}", "lab.yaml:4: unknown key 'exports'; did you mean 'export'?"),
        ("", "there is no exporter in "),
        (
            f"{HEAD}export: {{a: &a {{children: {{x: *a}}}}}}",
            "lab.yaml:1: values are nested more than 100 deep",
        ),
        (
            f"{HEAD}export:\n  a0: &a0 {{children: {{x: {{type: m.C}}, y: {{type: m.C}}}}}}\n"
            + "".join(f"  a{n}: &a{n} {{children: {{x: *a{n - 1}, y: *a{n - 1}}}}}\n" for n in range(1, 30)),
            "lab.yaml:1: with all aliases written out, there are more than 100000 values",
        ),
        (
            f"{HEAD}export: {{power: {{type: m.C, config: {{x0: &x0 {{k: 1}}\n"
            + "".join(f", x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 9)}]}}\n" for n in range(1, 12))
            + "}}}",
            "lab.yaml:1: with all aliases written out, there are more than 100000 values",
        ),
        (f"{HEAD}export: {'[' * 5000}", "lab.yaml"),
        (
            f"{HEAD}export: {{power: {{type: jumpstarter_driver_powr.driver.MockPower}}}}",
            "exporter worse-1 does not start: driver 'power' (jumpstarter_driver_powr.driver.MockPower): "
            "module jumpstarter_driver_powr is not installed; did you mean jumpstarter_driver_power?",
        ),
        (
            f"{HEAD}export: {{power: {{type: bad_drivers.Misspelt}}}}",
            "does not start: driver 'power' (bad_drivers.Misspelt): module bad_drivers has no Misspelt",
        ),
        (
            f"{HEAD}export: {{power: {{type: bad_drivers.Raises}}}}",
            "exporter worse-1 does not start: driver 'power' (bad_drivers.Raises): OSError: no such port: /dev/ttyUSB7",
        ),
        (
            f"{HEAD}export: {{port: {{type: jumpstarter_driver_pyserial.driver.PySerial, config: {{port: /dev/x}}}}}}",
            "driver 'port' (jumpstarter_driver_pyserial.driver.PySerial) has no option 'port', and needs 'url'; "
            "its options: url (required), baudrate=115200, check_present=True, ",
        ),
    ],
)
def test_broken_lab_file(suite: pytest.Pytester, lab_file: Callable[[str], Path], text: str, message: str) -> None:
    """A lab file that makes no sense names file, line and exporter; the lab leaves no process behind."""
    file = lab_file(text)
    said = one_error(suite, f"--jmp-lab={file}")
    assert message in said
    assert str(file) in said
    assert said.endswith("(from --jmp-lab)")
    leave_no_process(str(file))
    leave_no_process("worse-1")


def test_missing_lab_file(suite: pytest.Pytester) -> None:
    """A lab file that is not there names itself, and the ini file that it is beside."""
    suite.makeini("[pytest]\njmp_selector = kind=dut\njmp_lab = nowhere.yaml\n")
    said = one_error(suite)
    assert said == f"lab file {suite.path / 'nowhere.yaml'} does not exist (from jmp_lab in tox.ini)"


@pytest.mark.parametrize("package", ["jwt", "cryptography", "trustme"])
def test_without_the_extra(
    suite: pytest.Pytester, lab_file: Callable[[str], Path], tmp_path: Path, package: str
) -> None:
    """Where the embedded lab's own packages are not installed, the command that installs them is named."""
    file = lab_file(HEAD)
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError(name={package!r})")
    said = one_error(suite, f"--jmp-lab={file}")
    assert said == (
        f"the embedded lab needs {package}, which is not installed; pip install 'pytest-jumpstarter[lab]' "
        "(from --jmp-lab)"
    )
    leave_no_process(str(file))


def test_a_lab_that_does_not_start_is_not_started_again(
    suite: pytest.Pytester, lab_file: Callable[[str], Path], tmp_path: Path
) -> None:
    """Every test that needs the lab gets the error; only the first waits for it."""
    file = lab_file(f"{HEAD}export: {{power: {{type: bad_drivers.Raises}}}}")
    one_error(suite, f"--jmp-lab={file}", "--jmp-scope=function")
    assert (tmp_path / "starts").read_text() == "x"

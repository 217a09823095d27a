"""The folders of `examples/`: each is a suite that runs alone, and says what it shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
FOLDERS = [EXAMPLES, *sorted({path.parent for path in EXAMPLES.glob("*/*") if path.parent.name != "__pycache__"})]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_says_what_it_shows(folder: Path) -> None:
    """Each folder has a README with a title; the page about the examples has a row for the folder."""
    assert (folder / "README.md").read_text().startswith("# ")
    name = folder.relative_to(EXAMPLES.parent)
    assert f"| `{name}/` |" in (EXAMPLES.parent / "docs" / "howto" / "examples.md").read_text()


@pytest.mark.parametrize(
    "folder", [folder for folder in FOLDERS if list(folder.glob("test_*.py"))], ids=lambda folder: folder.name
)
def test_a_folder_runs_alone(folder: Path) -> None:
    """`pytest` in the folder collects its tests, and those of no other folder; its ini file names the lab."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    files = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert {name for name in files if name.startswith("test_")} >= {path.name for path in folder.glob("test_*.py")}
    assert not [name for name in files if "/" in name]
    assert "jmp_lab = lab.yaml\n" in (folder / "pytest.ini").read_text()

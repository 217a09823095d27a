"""The blocks of code in README and `docs/`: each is what it claims to be, and CI runs them or the page says why not."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from pytest_jumpstarter.lab.documents import read_documents

ROOT = Path(__file__).parent.parent
FENCE = re.compile(
    r"(?:^[ ]*<!-- not run: (?P<reason>.+?) -->\n)?^(?P<indent>[ ]*)```(?P<kind>[\w-]+)\n(?P<text>.*?)^[ ]*```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """
    A fenced block of a page.

    Attributes:
        page: The page, relative to the project.
        kind: The language.
        text: What is inside.
        reason: Why it is not run; empty if it is.
    """

    page: str
    kind: str
    text: str
    reason: str

    @property
    def file(self) -> str:
        """The name of the file that its first line says it is; empty if it says none."""
        found = re.match(r"# ([\w./-]+\.\w+)\n", self.text)
        return found[1] if found else ""


def blocks() -> list[Block]:
    """Return all blocks that have a language."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        Block(str(page.relative_to(ROOT)), each["kind"], textwrap.dedent(each["text"]), each["reason"] or "")
        for page in pages
        for each in FENCE.finditer(page.read_text())
    ]


BLOCKS = blocks()


def of_kind(*kinds: str) -> list[Block]:
    """Return the blocks in some languages; there are such blocks."""
    found = [block for block in BLOCKS if block.kind in kinds]
    assert found
    return found


def test_python_is_python() -> None:
    """Every Python block compiles."""
    for block in of_kind("python"):
        compile(block.text, block.page, "exec")


def test_lab_files_are_lab_files(tmp_path: Path) -> None:
    """The lab knows every key of each lab file, and each driver is a name."""
    labs = [block for block in of_kind("yaml") if "kind: ExporterConfig" in block.text]
    assert len(labs) >= 4
    for block in labs:
        file = tmp_path / "lab.yaml"
        file.write_text(block.text)
        assert all(document.drivers for document in read_documents([file])), block.page


def test_yaml_is_yaml() -> None:
    """Every YAML block parses."""
    for block in of_kind("yaml"):
        assert list(yaml.safe_load_all(block.text)), block.page


def test_options_exist(pytester: pytest.Pytester) -> None:
    """Every option of ours that a page names exists."""
    flags = set(re.findall(r"--jmp-[a-z]+(?:-[a-z]+)*", pytester.runpytest("--help").stdout.str()))
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    named = {flag for page in pages for flag in re.findall(r"--jmp-[a-z]+(?:-[a-z]+)*", page.read_text())}
    assert "--jmp-wait" in named
    assert named - flags == set()


COMMON = {
    "lab.yaml": "---\n".join(
        f"""\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {{name: {name}, labels: {{{labels}}}}}
export:
  board: {{type: pytest_jumpstarter.lab.board.VirtualBoard}}
  power: {{ref: board.power}}
  console: {{ref: board.console}}
  storage: {{ref: board.storage}}
"""
        for name, labels in {
            "board-1": "board: virtual, can: 'true'",
            "rpi4-01": "board: rpi4",
            "rpi5-01": "board: rpi5",
            "gateway-1": "kind: gateway, can: ''",
        }.items()
    ),
    "pytest.ini": "[pytest]\njmp_lab = lab.yaml\naddopts = --import-mode=importlib -p no:cacheprovider\n",
    "conftest.py": """
from jumpstarter_driver_power.client import PowerClient
from pytest_jumpstarter import device_fixture
dut = device_fixture(selector="board=virtual")
gateway = device_fixture(selector="kind=gateway")
PowerClient.cycle.__defaults__ = (0,)  # seconds without power, else 2 for each test
""",
}
"""A lab for the blocks of pages that show none, and the devices that they name."""


def write_python(folder: Path, page: str) -> int:
    """Write the Python blocks of a page that run to a folder, and return how many tests they are."""
    tests = 0
    for number, block in enumerate(block for block in of_kind("python") if block.page == page and not block.reason):
        path = folder / (block.file or f"test_{number}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists(), f"{page} has two blocks {path.name}"
        path.write_text(block.text)
        tests += len(re.findall(r"^\s*def test_", block.text, re.MULTILINE))
    return tests


def shell_pages() -> dict[str, list[Block]]:
    """Return the blocks of shell sessions that run, by page."""
    found: dict[str, list[Block]] = {}
    for block in of_kind("bash", "console"):
        if not block.reason and block.page != "README.md":  # whose blocks `.ci/run` runs
            found.setdefault(block.page, []).append(block)
    return found


def test_python_runs(pytester: pytest.Pytester) -> None:
    """All Python blocks without a reason why not are suites that pass, each page in a folder, in one run."""
    for name, text in COMMON.items():
        pytester.path.joinpath(name).write_text(text)
    pages = {block.page for block in of_kind("python")} - {*shell_pages()}
    tests = sum(
        write_python(pytester.path / page.replace("/", "_").removesuffix(".md"), page) for page in sorted(pages)
    )
    outcomes = pytester.runpytest_subprocess().parseoutcomes()
    assert outcomes.keys() <= {"passed", "xfailed"}
    assert sum(outcomes.values()) >= tests >= 10


@pytest.mark.parametrize("page", shell_pages())
def test_shell_runs(pytester: pytest.Pytester, page: str) -> None:
    """The commands of a page pass in a project of its blocks; its ini file names boards that can be had."""
    for block in BLOCKS:
        if block.page == page and (block.kind, block.reason) in (("yaml", ""), ("ini", "")):
            name = "lab.yaml" if block.kind == "yaml" else "settings.ini"
            pytester.path.joinpath(name).write_text(block.text)
    tests = write_python(pytester.path, page)
    commands = [line for block in shell_pages()[page] for line in block.text.splitlines()]
    if (settings := pytester.path / "settings.ini").exists():
        assert pytester.runpytest_subprocess("-c", settings, "--rootdir=.", "--jmp-check").ret == 0
    for command in commands:
        assert command.startswith("pytest ")
        result = pytester.runpytest_subprocess(*shlex.split(command)[1:])
        assert result.ret == 0
        assert sum(result.parseoutcomes().values()) >= tests > 0


def test_readmes_blocks_are_run_by_ci() -> None:
    """`.ci/run` runs the first blocks of two headings of README; the others say why they are not run."""
    headings = re.findall(r'block "?([A-Z][\w ]+)', (ROOT / ".ci" / "run").read_text())
    text = (ROOT / "README.md").read_text()
    first = {FENCE.search(text.partition(f"\n## {heading}\n")[2]) for heading in headings}
    run = {found["text"] for found in first if found}
    assert sorted(set(headings)) == ["Developing", "Quick start"]
    assert {block.text for block in of_kind("bash") if block.page == "README.md" and not block.reason} == run

"""
The pictures of README and the documentation, made of what the plugin really prints: `python tests/pictures.py`.

`tests/test_pictures.py` makes the texts in them again, and compares.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from made_up_runs import made_up
from report_browser import Reader, chromium

FOLDER = Path(__file__).parent.parent / "docs" / "_static"
COLUMNS = 92
LAB = """\
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata: {name: board-1, labels: {board: virtual}}
export:
  board: {type: pytest_jumpstarter.lab.board.VirtualBoard}
  power: {ref: board.power}
  console: {ref: board.console}
"""
SUITE = """\
def test_boots(dut, console):
    dut.power.on()
    console.expect("login: ")


def test_release(dut, console):
    dut.power.off()
    dut.power.on()
    console.expect("login: ")
    console.sendline("root")
    console.expect("# ")
    console.sendline("version")
    console.expect(r"(\\d+\\.\\d+\\.\\d+)")
    version = console.match[1]
    console.expect("# ")
    assert version == "1.0.1"
"""
# What differs from run to run, and from machine to machine: (what is found, what stands in the picture)
NORMAL = (
    (r"(?m)^(platform|rootdir|plugins:|jumpstarter report).*\n", ""),
    (r"\d\d:\d\d:\d\d\.\d\d\d", "09:30:00.000"),
    (r"pj-[0-9a-f]{8}-main-1", "pj-4f1c09aa-main-1"),
    (r"queued +held +busy", "queued  held  busy"),
    (r"(board-1 +2 +0) +\S+ +\S+ +\d+%", r"\1    0.1s  1.2s   83%"),
    (r"in \d+\.\d\ds( \(.*?\))?", "in 1.80s"),
)
TIMELINE = """
const rows = [...document.querySelectorAll(".row-of-board")].map((row) => ({
  board: row.querySelector(".board").textContent,
  shapes: [...row.querySelectorAll(".lane svg > *")].map((each) => ({
    name: each.tagName, fill: getComputedStyle(each).fill, stroke: getComputedStyle(each).stroke,
    attributes: Object.fromEntries([...each.attributes].map((one) => [one.name, one.value])),
  })),
}));
const ticks = [...document.querySelectorAll(".ticks span")].map(
  (each) => [each.getBoundingClientRect().left - each.parentElement.getBoundingClientRect().left, each.textContent]);
const legend = [...document.querySelectorAll(".legend li")].map((each) => {
  const {fill, stroke} = getComputedStyle(each.querySelector("rect"));
  return [fill, stroke, each.textContent];
});
return {rows, ticks, legend, width: document.querySelector(".lane svg").clientWidth};"""


def run_of_the_suite() -> str:
    """Run the suite on a virtual board, and return what a terminal shows, with colours, without what differs."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "lab.yaml").write_text(LAB)
        Path(folder, "test_board.py").write_text(SUITE)
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "JMP_", "CI"))}
        environ |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": str(COLUMNS)}
        options = "-p pytest_jumpstarter -p no:cacheprovider --no-header --color=yes --code-highlight=no --tb=short"
        lab = "--jmp-lab=lab.yaml --jmp-selector board=virtual"
        command = [sys.executable, "-m", "pytest", *options.split(), *lab.split()]
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    text = done.stdout
    for pattern, normal in NORMAL:
        text = re.sub(pattern, normal, text)
    return text


def terminal_svg(text: str) -> str:
    """Return the picture of a terminal."""
    from rich.console import Console
    from rich.text import Text

    command = "$ pytest --no-header --tb=short --jmp-lab=lab.yaml --jmp-selector board=virtual\n"
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(command + text.rstrip()))
    made = console.export_svg(title="pytest on a virtual board", unique_id="terminal")
    made = re.sub(r"@font-face \{.*?\}\s*", "", made, flags=re.DOTALL)  # nothing is fetched from elsewhere
    return re.sub(r"[ \t]+$", "", made, flags=re.MULTILINE) + "\n"


def timeline() -> dict[str, Any]:
    """Open the page of a run that never was in a browser, and return what its timeline shows."""
    outcomes = {5: "failed", 14: "failed", 26: "device error", 40: "failed"}
    numbers = count()
    data = made_up(48, 4, lambda _: outcomes.get(next(numbers), "passed"))
    for number, lease in enumerate(data["leases"]):
        lease["exporter"] = f"rpi4-0{number + 1}"
    for test in data["tests"]:
        for device in test["devices"]:
            device["exporter"] = f"rpi4-0{int(test['worker'][2:]) + 1}"
    for number, exporter in enumerate(data["exporters"]):
        exporter["exporter"] = f"rpi4-0{number + 1}"
    os.environ["TZ"] = "UTC"
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder, "profile")) as browser:
        reader = Reader(browser, Path(folder))
        reader.emulate(width=1000, scheme="light")
        reader.open(data)
        reader.until(
            "[...document.querySelectorAll('.lane svg')].filter((each) => each.children.length > 20).length === 4"
        )
        found: dict[str, Any] = reader.js(TIMELINE)
    return found


def timeline_svg(found: dict[str, Any]) -> str:
    """Return the picture of a timeline."""
    left, top, height = 90, 64, 28
    size = (left + found["width"] + 16, top + height * len(found["rows"]) + 12)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" font-size="14" fill="#1c1c22"'
        ' font-family="system-ui, sans-serif">',
        "<title>Timeline of four boards: when each was queued for, connected, tested and held</title>",
        f'<rect width="{size[0]}" height="{size[1]}" rx="8" fill="#fff"/>',
    ]
    x = 12.0
    for fill, stroke, words in found["legend"]:
        parts += [f'<rect x="{x:.0f}" y="10" width="14" height="14" fill="{fill}" stroke="{stroke}"/>']
        parts += [f'<text x="{x + 19:.0f}" y="22">{escape(words)}</text>']
        x += 38 + 7.6 * len(words)
    for x, words in found["ticks"]:
        parts.append(f'<text x="{left + x:.0f}" y="52" font-size="12" fill="#5b5b66">{escape(words)}</text>')
    for number, row in enumerate(found["rows"]):
        parts.append(f'<text x="12" y="{top + height * number + 17}">{escape(row["board"])}</text>')
        parts.append(f'<g transform="translate({left} {top + height * number})">')
        for shape in row["shapes"]:
            attributes = {name: value for name, value in shape["attributes"].items() if name != "class"}
            words = " ".join(f'{name}="{escape(value)}"' for name, value in attributes.items())
            parts.append(f'<{shape["name"]} {words} fill="{shape["fill"]}" stroke="{shape["stroke"]}"/>')
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def words_in(svg: str) -> list[str]:
    """Return the lines of text in a picture, in their order; a line of `=` is as long as what it surrounds allows."""
    return [
        re.sub("==+", "==", "".join(each.itertext()).replace("\xa0", " ").rstrip())
        for each in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    ]


def main() -> None:
    """Make all pictures."""
    (FOLDER / "terminal.svg").write_text(terminal_svg(run_of_the_suite()))
    (FOLDER / "timeline.svg").write_text(timeline_svg(timeline()))


if __name__ == "__main__":
    main()

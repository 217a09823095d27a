"""The embedded lab answers as a production controller did, which was asked the same 303 requests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from jumpstarter_protocol import client_pb2

from pytest_jumpstarter.lab import Lab

from .asking import normalised
from .peers import Peer, refusal, wait_for
from .question_data import BOARD_1, LAB_FILE
from .questions import Questions

ROOT = Path(__file__).parents[2]
PRODUCTION: dict[str, str] = json.loads((ROOT / "tests/data/controller-0.9.0.json").read_text())
PAGE = (ROOT / "docs/fidelity.md").read_text()
EXPIRED = "auth: expired token"

# What differs; docs/fidelity.md gives the reasons, under these headings.
OTHER_CODES = {
    "A dial after the end of a lease": ["outcome exporter+selector: dial deleted"],
    "Very long texts": ["huge bad name 20 kB"],
}
OTHER_TEXTS = {
    "Selectors that do not parse": [
        "filter: 'board in ('", "filter: 'a=b=c'", "filter: '=x'", "filter: ','", "filter: 'board=virtual,'",
        "filter: '!'", "filter: '-x'", "filter: 'a/b/c=d'", "filter: 'UPPER.com/x=y'",
        "filter: 'board=xxxxxxxxxxxxxxxxxxxxxxxx'", "filter: 'kkkkkkkkkkkkkkkkkkkkkkkkkkkkkk'", "filter: 'board=a b'",
        "filter: 'board in (a b)'", "filter: 'n>x'", "filter: 'x in in (a)'", "filter: 'board=ü'",
        "filter: 'board=virtual n=1'", "filter: '('", "filter: 'board&x'", "filter: \"board='virtual'\"",
        "leases: bad filter", "leases: bad tag_filter", "leases: tag_filter with slash",
        "leases: tag_filter long value", "selector: 'a in ('", "selector: '=x'", "selector: ','",
        "selector: 'board=xxxxxxxxxxxxxxxxxxxxxxxx'", "selector: 'a/b/c=d'", "selector: 'board=none,'",
        "update: bad selector",
    ],
    "Texts of gRPC": ["unknown method", "unknown service", "invalid utf-8", "broken protobuf", "5 MiB request"],
}  # fmt: skip

# A lab that does not wait for an exporter that is free: the two answers that come after this wait would take a minute.
IMPATIENT = """
import sys
from pytest_jumpstarter.lab import controller_service
from pytest_jumpstarter.lab.__main__ import main
controller_service.DIAL_WAIT = 0.5
sys.exit(main())
"""


@contextmanager
def impatient_lab(folder: Path) -> Iterator[Path]:
    """Serve the lab of the questions; yield the folder of its configs."""
    file, log = folder / "lab.yaml", folder / "log"
    file.write_text(LAB_FILE)
    arguments = [str(file), "--config-dir", str(folder / "configs"), "--client=alice", "--client=bob"]
    with (
        log.open("wb") as output,
        subprocess.Popen([sys.executable, "-c", IMPATIENT, *arguments], stdout=output, stderr=output) as process,
    ):
        try:
            wait_for(lambda: "lab ready" in log.read_text() or process.poll() is not None, "the lab", timeout=60)
            assert process.poll() is None, log.read_text()
            yield folder / "configs"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Ask a lab everything."""
    with (
        impatient_lab(tmp_path_factory.mktemp("fidelity")) as configs,
        Peer(configs / "clients" / "alice.yaml") as alice,
        Peer(configs / "clients" / "bob.yaml") as bob,
        Peer(configs / "exporters" / "board-1.yaml") as exporter,
    ):
        return Questions(alice, bob, exporter.token).ask_all()


def test_every_question_is_asked(answers: dict[str, str]) -> None:
    """The lab was asked all that production was asked; the expired token is in a test of its own."""
    assert set(answers) == set(PRODUCTION) - {EXPIRED}


@pytest.mark.parametrize("label", [label for label in PRODUCTION if label != EXPIRED])
def test_answer(answers: dict[str, str], label: str) -> None:
    """The answer is that of production: code and text, or only the code where the text is a known exception."""
    here, there = answers[label], PRODUCTION[label]
    is_same_code = here.split(" | ")[0] == there.split(" | ")[0]
    assert (is_same_code, here == there) == (label not in _all(OTHER_CODES), label not in _exceptions()), (here, there)


@pytest.mark.parametrize("heading", [*OTHER_CODES, *OTHER_TEXTS])
def test_exception_is_documented(heading: str) -> None:
    """The page for people has every exception, with its reason and the number of answers."""
    labels, what = (OTHER_CODES | OTHER_TEXTS)[heading], "code" if heading in OTHER_CODES else "text"
    count = f"{len(labels)} {what}{'s' if len(labels) > 1 else ''}"
    assert f"| {heading} | {count} |" in PAGE


def test_numbers_are_documented(answers: dict[str, str]) -> None:
    """The page for people counts the answers as they are; that of the expired token is equal, as its test shows."""
    codes = sum(here.split(" | ")[0] != PRODUCTION[label].split(" | ")[0] for label, here in answers.items())
    equal = sum(here == PRODUCTION[label] for label, here in answers.items()) + 1
    texts = len(PRODUCTION) - equal - codes
    said = " ".join(PAGE.split())
    assert f"was asked {len(PRODUCTION)} requests" in said
    counts = f"{equal} answers are equal, word for word. In {texts} more the status code is equal and the text differs"
    assert f"{counts}, in {codes} the code differs:" in said


def _all(exceptions: Mapping[str, Sequence[str]]) -> set[str]:
    return {label for labels in exceptions.values() for label in labels}


def _exceptions() -> set[str]:
    return _all(OTHER_CODES) | _all(OTHER_TEXTS)


def test_expired_token(tmp_path: Path) -> None:
    """A token that has expired is refused with production's words, and the time of its end."""
    file = tmp_path / "lab.yaml"
    file.write_text("metadata: {name: ext}\n")
    with Lab([file], arguments=["--token-lifetime", "1ms"]) as lab, Peer(lab.client_config) as peer:
        request = client_pb2.GetExporterRequest(name=BOARD_1)
        code, text = refusal(lambda: peer.call(peer.clients.GetExporter, request))
    assert normalised(f"{code} | {text}") == PRODUCTION[EXPIRED]

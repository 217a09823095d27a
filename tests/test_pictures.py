"""The pictures of README and the documentation are current: `python tests/pictures.py` would make the same."""

from __future__ import annotations

import pytest
from pictures import FOLDER, run_of_the_suite, terminal_svg, timeline, timeline_svg, words_in

MAKE = "make them again: python tests/pictures.py"


def test_terminal() -> None:
    """The picture of a terminal has the lines that a run prints now."""
    pytest.importorskip("rich", reason="no rich: install the extra docs")
    now = words_in(terminal_svg(run_of_the_suite()))
    assert len(now) > 20
    assert words_in((FOLDER / "terminal.svg").read_text()) == now, MAKE


def test_timeline() -> None:
    """The picture of a timeline is the one that the page of a report draws now."""
    now = timeline_svg(timeline())
    assert now.count("<rect") > 40
    assert (FOLDER / "timeline.svg").read_text() == now, MAKE

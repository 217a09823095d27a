"""What messages quote: the last lines of a board's output, lines without their middle, and other errors."""

from __future__ import annotations

from pytest_jumpstarter.masking import first_characters, last_characters

_SHOWN_LINES = 20
SHOWN_LINE = 500  # characters of a line; a board may print without line ends
_SHOWN_CHARACTERS = 4000


def tail(text: str) -> str:
    """Return the last lines, made safe to show, and how much came before them."""
    lines = last_characters(text, _SHOWN_CHARACTERS).splitlines()
    shown = [f"  {line}" for line in lines[-_SHOWN_LINES:]]
    if len(text) > _SHOWN_CHARACTERS:
        shown.insert(0, f"  … {len(text) - _SHOWN_CHARACTERS} characters before")
    elif len(lines) > _SHOWN_LINES:
        shown.insert(0, f"  … {len(lines) - _SHOWN_LINES} lines before")
    return "\n".join(shown) or "  (nothing)"


def shortened(line: str) -> str:
    """Return a line, without its middle if it is very long."""
    if len(line) <= 2 * SHOWN_LINE:
        return line
    return f"{first_characters(line, SHOWN_LINE)}…{last_characters(line, SHOWN_LINE)}"


def words_of(error: BaseException) -> str:
    """Return the text of an error; of a gRPC error its details, without the debug output."""
    if isinstance(error, TimeoutError):
        return str(error)
    details = getattr(error, "details", None)
    return str(details()) if callable(details) else f"{type(error).__name__}: {error}"

"""
Control codes of terminals, and commands to CI systems.

Escape sequences are removed. Other control codes, the invisible characters that change the direction or the look of
text (Unicode's categories Cc, Cf, Cs, Zl and Zp), and characters that XML does not allow become U+FFFD. A tab and a
line end stay.

A CI system reads the output of a job line by line and obeys some lines. A backslash breaks these commands:

- GitHub: `::error::`, `::add-mask::`, … at the start of a line; older: `##[error]` anywhere.
- Azure: `##vso[…]`, and TeamCity: `##teamcity[…]`, anywhere.
- GitLab: `section_start:TIME:NAME` and `section_end:…` anywhere.
- Buildkite: `---`, `+++`, `~~~` and `^^^ +++` at the start of a line, which fold the lines after it.
- Jenkins and GitLab: `[[ATTACHMENT|PATH]]` in a JUnit file publishes that file.
"""

from __future__ import annotations

import re

# A sequence has only printable characters between its introducer and its end, so that no place is searched twice.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]"  # CSI: colours, the cursor
    r"|(?:\x1b[\]P^_X]|[\x9d\x90\x9e\x9f\x98])[^\x00-\x1f\x7f-\x9f]*+(?:\x07|\x1b\\|\x9c)"  # OSC: titles, links
    r"|\x1b[ -/]++[0-~]|\x1b[0-Z\\^-~]"  # two or three characters: character sets, reset
)
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\udfff\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(1, 17))
    + "]"
)
_COMMANDS = re.compile(
    r"^[^\S\n]*+(?=::[\w-])"
    r"|^(?=(?:---|\+\+\+|~~~) |\^\^\^ \+\+\+)"
    r"|#(?=#\w*+\[)"
    r"|\[(?=\[ATTACHMENT\|)"
    r"|section_(?:start|end)(?=:\d)",
    re.MULTILINE,
)


def without_controls(text: str) -> str:
    """Return text without escape sequences and control codes; every kind of line end becomes a line feed."""
    if text.isprintable():  # most lines; characters that are no control codes may be not printable, too
        return text
    text = _SEQUENCES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def without_commands(text: str) -> str:
    """Return text in which a backslash breaks every command to a CI system."""
    return _COMMANDS.sub(r"\g<0>\\", text)

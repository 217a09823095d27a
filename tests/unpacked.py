"""Texts that no search for words in a file finds: those compressed in the page, and those in the history."""

from __future__ import annotations

import base64
import json
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path


def unpacked(page: str) -> str:
    """Return a page with the texts that are compressed in it."""
    packed = page.partition('<script type="text/plain" id="texts">')[2].partition("</script>")[0]
    return "\n".join([page, *json.loads(zlib.decompress(base64.b64decode(packed)))])


def dumped(path: Path) -> str:
    """Return all texts in a file of `--jmp-history`."""
    with closing(sqlite3.connect(path)) as connection:
        return "\n".join(connection.iterdump())

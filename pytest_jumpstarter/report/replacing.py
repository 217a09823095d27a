"""Files that are written as a whole: the process may be killed, and people may look at them while the run goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path to write to; what is written there replaces the file at the end. An error leaves the old file."""
    is_special = path.is_symlink() or (path.exists() and not path.is_file())  # a device, such as /dev/stdout
    if is_special or (path.exists() and not os.access(path.parent, os.W_OK)):
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)

"""
The lab's folder for temporary files: its exporters' sockets, and its configs unless they are asked for elsewhere.

Whoever is left takes it away: the lab when it stops, its owner when the lab was killed, an exporter when both were.
"""

from __future__ import annotations

import shutil
from pathlib import Path

TEMPORARY_PREFIX = "pjlab-"  # short: paths of sockets have a limit


def default_config_dir(temporary: Path) -> Path:
    """Return where configs go when nobody says where."""
    return temporary / "config"


def remove_temporary(folder: Path) -> None:
    """Take the folder away; one that does not look like a lab's stays."""
    if folder.name.startswith(TEMPORARY_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)

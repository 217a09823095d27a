"""
The lab's folder for temporary files: the sockets of its exporters, and its configs unless another folder is given.

The lab removes it when it stops. If the lab was killed, its owner removes it; if both were, an exporter does.
"""

from __future__ import annotations

import shutil
from pathlib import Path

TEMPORARY_PREFIX = "pjlab-"  # short, because the length of a socket's path is limited


def default_config_dir(temporary: Path) -> Path:
    """Return the folder for configs if none is given."""
    return temporary / "config"


def remove_temporary(folder: Path) -> None:
    """Remove the folder, if its name is that of a lab's folder."""
    if folder.name.startswith(TEMPORARY_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)

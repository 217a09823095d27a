"""Serve the drivers of an exporter config on a unix socket until standard input ends; print the socket's path."""

from __future__ import annotations

import sys
from pathlib import Path

from jumpstarter.config.exporter import ExporterConfigV1Alpha1


def main() -> None:
    """Serve."""
    config = ExporterConfigV1Alpha1.load_path(Path(sys.argv[1]))
    with config.serve_unix() as path:
        print(path, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

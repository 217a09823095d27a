"""
Serve the drivers of an exporter config, without a lab, until standard input ends.

Prints the path of the socket, as in a `jmp shell`, and `HOST:PORT` of the same session in plain text.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from jumpstarter.common import ExporterStatus
from jumpstarter.config.exporter import ExporterConfigV1Alpha1, ExporterConfigV1Alpha1DriverInstance
from jumpstarter.exporter import Session


async def serve(config: ExporterConfigV1Alpha1) -> None:
    """Serve one session on both."""
    values = {"type": "jumpstarter_driver_composite.driver.Composite", "children": config.export}
    root = ExporterConfigV1Alpha1DriverInstance.model_validate(values).instantiate()
    new_session: Any = Session  # it carries no types
    with new_session(root_device=root) as session:
        session.update_status(ExporterStatus.LEASE_READY)
        async with session.serve_unix_async() as path, session.serve_tcp_async("127.0.0.1", 0) as port:
            print(path, f"127.0.0.1:{port}", flush=True)
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(ExporterConfigV1Alpha1.load_path(Path(sys.argv[1]))))

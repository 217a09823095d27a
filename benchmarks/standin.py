"""
A stand-in for many exporters without drivers, in one process: they join a lab, take leases and let them go.

    python -m benchmarks.standin FOLDER       # with the configs of the exporters; prints "joined", ends with its stdin
"""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path
from typing import Any

import grpc
import yaml
from jumpstarter_protocol import jumpstarter_pb2, jumpstarter_pb2_grpc
from jumpstarter_protocol.jumpstarter.v1 import common_pb2

AVAILABLE = common_pb2.EXPORTER_STATUS_AVAILABLE
READY = common_pb2.EXPORTER_STATUS_LEASE_READY


async def serve(config: dict[str, Any], controller: Any, joined: asyncio.Semaphore) -> None:
    """Be one exporter: say what it is, then follow its leases."""
    metadata = [
        ("jumpstarter-kind", "Exporter"),
        ("jumpstarter-namespace", config["metadata"]["namespace"]),
        ("jumpstarter-name", config["metadata"]["name"]),
        ("authorization", f"Bearer {config['token']}"),
    ]

    async def report(status: int) -> None:
        await controller.ReportStatus(jumpstarter_pb2.ReportStatusRequest(status=status), metadata=metadata)

    device = jumpstarter_pb2.DriverInstanceReport(uuid="0")
    await controller.Register(jumpstarter_pb2.RegisterRequest(reports=[device]), metadata=metadata)
    await report(AVAILABLE)
    joined.release()
    async for status in controller.Status(jumpstarter_pb2.StatusRequest(), metadata=metadata):
        await report(READY if status.leased else AVAILABLE)


async def main(folder: Path) -> None:
    """Be all exporters, until stdin is closed."""
    configs = [yaml.safe_load(file.read_text()) for file in sorted(folder.glob("*.yaml"))]
    roots = base64.b64decode(configs[0]["tls"]["ca"])
    options = [("grpc.enable_http_proxy", 0)]
    credentials = grpc.ssl_channel_credentials(roots)
    async with grpc.aio.secure_channel(configs[0]["endpoint"], credentials, options=options) as channel:
        controller: Any = jumpstarter_pb2_grpc.ControllerServiceStub(channel)
        joined = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(serve(config, controller, joined)) for config in configs]
        for _ in configs:
            await joined.acquire()
        print("joined", flush=True)
        over = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        await asyncio.wait([over, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        if broken := [it for it in ended if isinstance(it, Exception)]:
            raise broken[0]


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

"""Names board and lease in the text of a failure: editors and other programs show nothing else of a report."""

from __future__ import annotations

import pytest

from pytest_jumpstarter.evidence.record import DeviceFacts, Record

_TITLE = "device of the test"


def name_devices(report: pytest.TestReport, record: Record) -> None:
    """Add the exporter and lease of each device to the text of a failure, and the device error if it is not there."""
    if report.outcome not in ("failed", "rerun"):
        return
    lines = [_line(device) for device in record["devices"]]
    reason = record["device_error"]["reason"] if "device_error" in record else ""
    lines += [f"device error: {reason}"] if reason not in report.longreprtext else []
    if not lines:
        return
    if isinstance(report.longrepr, str):
        report.longrepr += "".join(f"\n{line}" for line in lines)
    elif (add := getattr(report.longrepr, "addsection", None)) is not None:  # pytest's representation of an exception
        add(_TITLE, "\n".join(lines))


def _line(device: DeviceFacts) -> str:
    lease = f", lease {device['lease']}" if device["lease"] else ""
    return f"{device['role']}: exporter {device['exporter'] or 'unknown'}{lease}"

"""
In the process that tests: records and properties of reports, made safe.

Most reports of a run say the same: which devices the test has. So what says the same is one object, made safe once.
"""

from __future__ import annotations

from pytest_jumpstarter import masking
from pytest_jumpstarter.evidence.record import MAPS, OURS, DeviceFacts, PlainRecord, Record
from pytest_jumpstarter.evidence.versions import versions
from pytest_jumpstarter.masking.structures import safe_data, safe_record

Property = tuple[str, object]


class SafeRecords:
    """
    Makes records safe, and the properties of the devices in them; both are not to be changed afterwards.

    Attributes:
        properties: The JUnit properties of the last record; docs/reference/reports.md lists their names.
    """

    def __init__(self) -> None:
        self.properties: list[Property] = []
        self._plain: Record | None = None
        self._source: tuple[list[DeviceFacts], int, int] | None = None

    def safe(self, record: Record) -> Record:
        """Return a record without secrets and control codes; the same object while there is nothing new in it."""
        source = record["devices"], record["attempt"], masking.version()
        if source != self._source:
            self._source, self._plain = source, None
            self.properties = safe_data(_properties(record["devices"], record["attempt"]))
        if not is_plain(record):
            return _safe(record)
        if self._plain is None:
            self._plain = _safe(record)
        return self._plain


def is_plain(record: Record) -> bool:
    """Return whether a record says nothing but which devices the test has."""
    return record.keys() == PlainRecord.__required_keys__


def _safe(record: Record) -> Record:
    found: Record = safe_record(record, ours=OURS, maps=MAPS)
    return found


def _properties(devices: list[DeviceFacts], attempt: int) -> list[Property]:
    properties: list[Property] = [("jumpstarter.attempt", attempt)]
    properties += [(f"jumpstarter.{name}", version) for name, version in versions().items()]
    for device in devices:
        labels = ",".join(f"{key}={value}" for key, value in (device["labels"] or {}).items())
        facts: dict[str, object] = {**device, "labels": labels, "hook_failures": "\n".join(device["hook_failures"])}
        always, sometimes = ("exporter", "labels", "lease", "wait_seconds"), ("state", "hook_failures")
        names = [*always, *(name for name in sometimes if facts[name])]
        properties += [(f"jumpstarter.{device['role']}.{name}", facts[name]) for name in names]
    return properties

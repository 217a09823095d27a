"""
One folder of evidence for each test that fails (`--jmp-artifacts`), in the process that leases.

The report's record says what is kept, for whoever makes links of it.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.evidence.record import Record
from pytest_jumpstarter.evidence.sections import Sections
from pytest_jumpstarter.masking import mask, mask_bytes, masked, masked_chunks

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.device.exporter_log import ExporterLog
    from pytest_jumpstarter.device.recording import Recording
    from pytest_jumpstarter.device.shared_port import SharedPort

TIMEOUT = 10.0
"""Seconds for all hooks that collect evidence of one test."""

CONSOLE_BYTES = 64 << 20
"""Of each console of a test, the last of it."""

FOLDER_BYTES = 64 << 20
"""Of what hooks add for one test."""

_NAME = 100
_CHUNK_BYTES = 1 << 20
_DEFAULT_ROLE = "dut"
_LOG_FIELDS = ("time", "role", "exporter", "level", "source", "message")


class Folder:
    """
    Where a hook puts evidence of one device.

    Attributes:
        path: The test's folder.
    """

    def __init__(self, shelf: _TestFolder, role: str) -> None:
        self.path = shelf.path
        self._shelf = shelf
        self._role = role

    def add(self, name: str, content: str | bytes) -> None:
        """
        Keep a file, under its name for `dut` or a test's only device, with the role in it for others.

        Args:
            name: Of the file; what cannot be part of a file's name everywhere is replaced.
            content: Of the file; text as UTF-8.

        Raises:
            RuntimeError: It is too late, or too much.
            OSError: The disk is full.
        """
        data = content.encode("utf-8", "replace") if isinstance(content, str) else content
        self._shelf.write(named(name, self._role), data)


class _TestFolder:
    """The files of one test's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: list[str] = []
        self.notes: list[str] = []
        self.is_closed = False
        self._left = FOLDER_BYTES
        self._written: dict[SharedPort | ExporterLog, int] = {}

    def write(self, name: str, data: bytes) -> None:
        """Write a file of a hook, if there is time and room."""
        if self.is_closed:
            raise RuntimeError(f"{name} comes too late: evidence is collected for {TIMEOUT:.0f}s")
        if len(data) > self._left:
            raise RuntimeError(f"{name} has {len(data)} bytes, and there is room for {self._left} more")
        self._left -= len(data)
        self.path.joinpath(name).write_bytes(mask_bytes(data))
        self._note(name)

    def take(self, device: Device, role: str, *, has_console: bool) -> None:
        """Write down what a device said, or what it said since this was called before."""
        for line in device.serial_ports if has_console else []:
            self._take_console(line, named("console.log", role, line.path if len(device.serial_ports) > 1 else ""))
        if device.log is not None and device.log.end > device.log.since:
            self._take_log(device, device.log)

    def _take_console(self, line: SharedPort, name: str) -> None:
        position, end = self._written.get(line, line.since), line.recording.end
        if position >= end:
            return
        position = max(position, end - CONSOLE_BYTES)
        with self.path.joinpath(name).open("ab") as file:
            file.writelines(masked_chunks(_chunks(line.recording, position, end)))
        self._written[line] = end
        self._note(name)

    def _take_log(self, device: Device, log: ExporterLog) -> None:
        end, seen = log.end, self._written.get(log, log.since)
        with self.path.joinpath("exporter.jsonl").open("a", encoding="utf-8") as file:
            for number, record in enumerate(log.since_test(), log.since):
                if number >= seen:
                    moment, *said = record
                    facts = (moment, device.role, device.exporter.name, *said)
                    file.write(json.dumps(masked(dict(zip(_LOG_FIELDS, facts, strict=True)))) + "\n")
        self._written[log] = end
        self._note("exporter.jsonl")

    def _note(self, name: str) -> None:
        if name not in self.files:
            self.files.append(name)


class Artifacts:
    """
    Keeps a folder for each test with devices that fails, or for each.

    Args:
        root: Where the folders are made.
        policy: As `--jmp-console` says: `on`, `off` or `retain-on-failure`.
        evidence: Knows the devices of tests.
    """

    def __init__(self, root: Path, policy: str, evidence: Sections) -> None:
        self._root = root
        self._policy = policy
        self._evidence = evidence
        self._shelf: _TestFolder | None = None

    def begin(self) -> None:
        """Begin a test."""
        self._shelf = None

    def keep(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport, record: Record) -> None:
        """Keep the evidence of a failure before a teardown changes the board, and at the end what came since."""
        is_last, is_bad = call.when == "teardown", report.outcome in ("failed", "rerun")
        has_devices = bool(self._evidence.devices(item))
        try:
            if self._shelf is None and has_devices and (is_bad or (is_last and self._policy == "on")):
                self._keep(item, report, record, is_bad=is_bad)
            elif self._shelf is not None and is_last:
                self._evidence.settle(item)
                self._take(item)
        except OSError as exc:  # the test is not at fault
            report.sections.append(("artifacts", f"not written: {exc}"))
            record["sections"] = [*record.get("sections", []), "artifacts"]
        if is_last:
            self._shelf = None

    def keep_interrupted(self, item: pytest.Item) -> None:
        """Keep the evidence of a test that a signal ended."""
        if self._shelf is None and self._evidence.devices(item):
            with suppress(OSError):
                self._open(item, {"outcome": "interrupted"})
                self._take(item)

    def _keep(self, item: pytest.Item, report: pytest.TestReport, record: Record, *, is_bad: bool) -> None:
        shelf = self._open(
            item,
            {
                "attempt": record["attempt"],
                "outcome": str(report.outcome),
                "phase": report.when,
                "worker": record["worker"],
                "devices": record["devices"],
            },
        )
        self._take(item)
        if is_bad:
            self._collect(item, shelf)
        record["artifacts"] = {"root": str(self._root), "folder": shelf.path.name, "files": sorted(shelf.files)}

    def _open(self, item: pytest.Item, facts: dict[str, Any]) -> _TestFolder:
        self._shelf = shelf = _TestFolder(new_folder(self._root, item.nodeid, facts.get("attempt", 1)))
        shelf.write(
            "test.json", json.dumps(masked({"id": item.nodeid, "time": time.time()} | facts), indent=1).encode()
        )
        return shelf

    def _take(self, item: pytest.Item) -> None:
        for device, role in self._devices(item):
            assert self._shelf is not None
            self._shelf.take(device, role, has_console=self._policy != "off")

    def _devices(self, item: pytest.Item) -> list[tuple[Device, str]]:
        """Return the devices of the test, each with what is put into the names of its files."""
        devices = self._evidence.devices(item)
        is_plain = len(devices) == 1
        return [(device, "" if is_plain or device.role == _DEFAULT_ROLE else device.role) for device in devices]

    def _collect(self, item: pytest.Item, shelf: _TestFolder) -> None:
        """Call the hooks in a thread, which is left behind where one of them hangs."""
        devices = [each for each in self._devices(item) if self._evidence.is_here(each[0])]

        def collect() -> None:
            for device, role in devices:
                try:
                    item.config.hook.pytest_jumpstarter_collect_evidence(
                        folder=Folder(shelf, role), device=device, item=item
                    )
                except Exception as exc:
                    shelf.notes.append(f"{device}: {type(exc).__name__}: {exc}")

        thread = threading.Thread(target=collect, name="jumpstarter-evidence", daemon=True)
        try:
            thread.start()
            thread.join(TIMEOUT)
        except RuntimeError as exc:
            shelf.notes.append(f"no evidence could be collected: {exc}")
        if thread.is_alive():
            shelf.notes.append(f"not all evidence could be collected within {TIMEOUT:.0f}s")
        shelf.is_closed = True
        if shelf.notes:
            shelf.path.joinpath("notes.txt").write_text(
                mask("".join(f"{note}\n" for note in shelf.notes)), errors="replace"
            )
            shelf.files.append("notes.txt")


def _chunks(recording: Recording, position: int, end: int) -> Iterator[bytes]:
    """Yield what was recorded between two positions."""
    while position < end:
        position, data = recording.read(position, min(_CHUNK_BYTES, end - position))
        if not data:
            return
        yield data


def new_folder(root: Path, test: str, attempt: int) -> Path:
    """Make a folder for a test, which is no other's: of another attempt, another process, or a run before."""
    name = slug(test) + (f"-attempt-{attempt}" if attempt > 1 else "")
    root.mkdir(parents=True, exist_ok=True)
    for number in range(1, 10_000):
        path = root / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise OSError(f"there are too many folders named {root / name}")


def slug(test: str) -> str:
    """Return a test's id as a name of a file: safe everywhere, not too long, and no other test's."""
    plain = re.sub(r"[^A-Za-z0-9._=\[\]-]+", "_", test.replace("/", "_").replace("::", "-")).strip("._") or "test"
    is_exact = not re.search(r"[^A-Za-z0-9._=\[\]:/-]", test) and len(plain) <= _NAME
    return plain if is_exact else f"{plain[:_NAME]}-{sha256(test.encode('utf-8', 'replace')).hexdigest()[:8]}"


def named(name: str, role: str, path: str = "") -> str:
    """Return the name of a device's file, with its role and the path of a driver in it where there are any."""
    stem, suffix = os.path.splitext(re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("._") or "file")
    return "-".join(filter(None, [stem, role, path.replace(".", "-")])) + suffix

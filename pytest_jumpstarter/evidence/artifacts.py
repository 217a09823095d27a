"""
A folder of evidence for each failed test (`--jmp-artifacts`), in the process that leases.

The record of the report contains the names of the files, so that reports can link to them.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.device.device import connected
from pytest_jumpstarter.evidence.record import MAPS, OURS, Record
from pytest_jumpstarter.evidence.sections import Sections
from pytest_jumpstarter.host import real_files, real_time
from pytest_jumpstarter.masking import mask_bytes, masked_chunks, safe
from pytest_jumpstarter.masking.structures import safe_data, safe_record

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.device.exporter_log import ExporterLog
    from pytest_jumpstarter.device.recording import Recording
    from pytest_jumpstarter.device.shared_port import SharedPort

TIMEOUT = 10.0
"""Seconds for all hooks that collect evidence of one test."""

CONSOLE_BYTES = 64 << 20
"""The maximum for each console of a test; the last bytes are kept."""

FOLDER_BYTES = 64 << 20
"""The maximum for all files that hooks add for one test."""

_NAME_LENGTH = 100
_CHUNK_BYTES = 1 << 20
_DEFAULT_ROLE = "dut"
_OUR_FILES = re.compile(r"(?i)test\.json|notes\.txt|exporter\.jsonl|console(-.*)?\.log")
_OURS = ("level", "source", "role")
_LOG_FIELDS = ("time", "role", "exporter", "level", "source", "message")


class Folder:
    """
    The folder for evidence of one device, as a hook gets it.

    Attributes:
        path: The test's folder.
    """

    def __init__(self, test_folder: _TestFolder, role: str) -> None:
        self.path = test_folder.path
        self._test_folder = test_folder
        self._role = role

    def add(self, name: str, content: str | bytes) -> None:
        """
        Write a file. If the test has several devices, the role is added to the name, except for `dut`.

        Args:
            name: The name of the file; characters that are not portable are replaced. If there is a file of this name,
                a number is added.
            content: The content of the file; text is encoded as UTF-8, without control codes.

        Raises:
            RuntimeError: The time for hooks is over, or the file is too large.
            OSError: The file cannot be written.
        """
        name = file_name(name, self._role)
        self._test_folder.check(name, len(content))
        data = _safe_text(name, content).encode() if isinstance(content, str) else mask_bytes(content)
        self._test_folder.add(name, data)


class _TestFolder:
    """
    The folder of one test.

    Attributes:
        files: The names of its files.
        notes: What could not be collected, and why.
        is_closed: Whether the time for hooks is over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: list[str] = []
        self.notes: list[str] = []
        self.is_closed = False
        self._left = FOLDER_BYTES
        self._uses: Counter[str] = Counter()
        self._written: dict[SharedPort | ExporterLog, int] = {}

    def check(self, name: str, size: int) -> None:
        """Raise an error if a file of a hook is not within the limits of time and size."""
        if self.is_closed:
            raise RuntimeError(f"{name} is too late: hooks have {TIMEOUT:.0f}s to collect evidence")
        if size > self._left:
            raise RuntimeError(f"{name} has {size} bytes, but there is room for {self._left} more")

    def add(self, name: str, data: bytes) -> None:
        """Write a file of a hook, within the limits of time and size, under a name that no other file has."""
        self.check(name, len(data))
        self._left -= len(data)
        self.write(self._free_name(name), data)

    def write(self, name: str, data: bytes) -> None:
        """Write a file."""
        real_files.write(self.path.joinpath(name), data, mode="x")
        self._add_name(name)

    def _free_name(self, name: str) -> str:
        """Return the name, changed if it is that of a file of ours, and with a number if a hook has used it before."""
        name = f"hook-{name}" if _OUR_FILES.fullmatch(name) else name
        stem, suffix = os.path.splitext(name)
        number = self._uses[name.casefold()] = self._uses[name.casefold()] + 1
        free = name if number == 1 else f"{stem}-{number}{suffix}"
        return free if free.casefold() not in {each.casefold() for each in self.files} else self._free_name(free)

    def add_output(self, device: Device, role: str, *, has_console: bool) -> None:
        """Write the output of consoles and exporter during the test; a later call writes only the new output."""
        ports, log = connected(device).serial_ports, connected(device).log
        for port in ports if has_console else []:
            self._add_console(port, file_name("console.log", role, port.path if len(ports) > 1 else ""))
        if log is not None and log.end > log.since:
            self._add_log(device, log)

    def _add_console(self, port: SharedPort, name: str) -> None:
        position, end = self._written.get(port, port.since), port.recording.end
        if position >= end:
            return
        position = max(position, end - CONSOLE_BYTES)
        real_files.write(self.path.joinpath(name), masked_chunks(_chunks(port.recording, position, end)), mode="a")
        self._written[port] = end
        self._add_name(name)

    def _add_log(self, device: Device, log: ExporterLog) -> None:
        end, written = log.end, self._written.get(log, log.since)
        lines = []
        for number, record in enumerate(log.since_test(), log.since):
            if number >= written:
                moment, *rest, details = record
                fields = (moment, device.role, device.exporter.name, *rest)
                facts = dict(zip(_LOG_FIELDS, fields, strict=True)) | ({"details": details} if details else {})
                lines.append(json.dumps(safe_record(facts, ours=_OURS, maps=("details",))).encode() + b"\n")
        real_files.write(self.path.joinpath("exporter.jsonl"), lines, mode="a")
        self._written[log] = end
        self._add_name("exporter.jsonl")

    def _add_name(self, name: str) -> None:
        if name not in self.files:
            self.files.append(name)


class Artifacts:
    """
    Keeps a folder for each failed test with devices; with the policy `on`, for every test with devices.

    Args:
        root: The folder that contains all folders.
        policy: The value of `--jmp-console`: `on`, `off` or `retain-on-failure`.
        sections: Knows the devices of tests.
    """

    def __init__(self, root: Path, policy: str, sections: Sections) -> None:
        self._root = root
        self._policy = policy
        self._sections = sections
        self._folder: _TestFolder | None = None

    def begin(self) -> None:
        """Start a test."""
        self._folder = None

    def keep(self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport, record: Record) -> None:
        """Keep the evidence of a failure before a teardown changes the board; after the teardown add new output."""
        is_last, is_bad = call.when == "teardown", report.outcome in ("failed", "rerun")
        has_devices = bool(self._sections.devices(item))
        try:
            if self._folder is None and has_devices and (is_bad or (is_last and self._policy == "on")):
                self._keep(item, report, record, is_bad=is_bad)
            elif self._folder is not None and is_last:
                self._sections.settle(item)
                self._add_output(item, self._folder)
        except OSError as exc:  # this is not the fault of the test
            report.sections.append(("artifacts", f"not written: {exc}"))
            record["sections"] = [*record.get("sections", []), "artifacts"]
        if is_last:
            self._folder = None

    def keep_interrupted(self, item: pytest.Item) -> None:
        """Keep the evidence of a test that a signal ended."""
        if self._folder is None and self._sections.devices(item):
            with suppress(OSError):
                folder = self._make_folder(item, 1, {"outcome": "interrupted"})
                self._add_output(item, folder)

    def _keep(self, item: pytest.Item, report: pytest.TestReport, record: Record, *, is_bad: bool) -> None:
        folder = self._make_folder(
            item,
            record["attempt"],
            {
                "attempt": record["attempt"],
                "outcome": str(report.outcome),
                "phase": report.when,
                "worker": record["worker"],
                "devices": record["devices"],
            },
        )
        self._add_output(item, folder)
        if is_bad:
            self._collect(item, folder)
        record["artifacts"] = {"root": str(self._root), "folder": folder.path.name, "files": sorted(folder.files)}

    def _make_folder(self, item: pytest.Item, attempt: int, facts: dict[str, object]) -> _TestFolder:
        """Make the folder of a test, with the facts in `test.json`."""
        self._folder = folder = _TestFolder(new_folder(self._root, safe(item.nodeid), attempt))
        facts = {"id": item.nodeid, "time": real_time.time(), **facts}
        folder.write("test.json", json.dumps(safe_record(facts, ours=OURS, maps=MAPS), indent=1).encode())
        return folder

    def _add_output(self, item: pytest.Item, folder: _TestFolder) -> None:
        for device, role in self._devices(item):
            folder.add_output(device, role, has_console=self._policy != "off")

    def _devices(self, item: pytest.Item) -> list[tuple[Device, str]]:
        """Return the devices of the test, each with the role in the names of its files, which may be empty."""
        devices = self._sections.devices(item)
        is_single = len(devices) == 1
        return [(device, "" if is_single or device.role == _DEFAULT_ROLE else device.role) for device in devices]

    def _collect(self, item: pytest.Item, test_folder: _TestFolder) -> None:
        """Call the hooks in a thread, which is abandoned if a hook hangs."""
        devices = [each for each in self._devices(item) if self._sections.is_in_use(each[0])]

        def collect() -> None:
            for device, role in devices:
                try:
                    item.config.hook.pytest_jumpstarter_collect_evidence(
                        folder=Folder(test_folder, role), device=device, item=item
                    )
                except Exception as exc:
                    test_folder.notes.append(f"{device}: {type(exc).__name__}: {exc}")

        thread = threading.Thread(target=collect, name="jumpstarter-evidence", daemon=True)
        try:
            thread.start()
            thread.join(TIMEOUT)
        except RuntimeError as exc:
            test_folder.notes.append(f"no evidence could be collected: {exc}")
        if thread.is_alive():
            test_folder.notes.append(f"not all evidence could be collected within {TIMEOUT:.0f}s")
        test_folder.is_closed = True
        if test_folder.notes:
            notes = safe("".join(f"{note}\n" for note in test_folder.notes))
            real_files.write(test_folder.path.joinpath("notes.txt"), notes.encode(errors="replace"))
            test_folder.files.append("notes.txt")


def _safe_text(name: str, text: str) -> str:
    """Return the text for a file; JSON stays JSON, whatever is masked in it."""
    if (found := safe(text)) != text and name.endswith(".json"):
        with suppress(ValueError):
            return json.dumps(safe_data(json.loads(text)), indent=1)
    return found


def _chunks(recording: Recording, position: int, end: int) -> Iterator[bytes]:
    """Yield the recorded bytes between two positions."""
    while position < end:
        position, data = recording.read(position, min(_CHUNK_BYTES, end - position))
        if not data:
            return
        yield data


def new_folder(root: Path, test: str, attempt: int) -> Path:
    """Make a new folder for a test; attempts, processes and runs never share one."""
    name = slug(test) + (f"-attempt-{attempt}" if attempt > 1 else "")
    real_files.make_folder(root, with_parents=True)
    for number in range(1, 10_000):
        path = root / (name if number == 1 else f"{name}-{number}")
        try:
            real_files.make_folder(path)
        except FileExistsError:
            continue
        return path
    raise OSError(f"there are too many folders named {root / name}")


def slug(test: str) -> str:
    """Return a file name for a test's id: portable, not too long, and different for every test."""
    plain = re.sub(r"[^A-Za-z0-9._=\[\]-]+", "_", test.replace("/", "_").replace("::", "-")).strip("._") or "test"
    is_exact = not re.search(r"[^A-Za-z0-9._=\[\]:/-]", test) and len(plain) <= _NAME_LENGTH
    return plain if is_exact else f"{plain[:_NAME_LENGTH]}-{sha256(test.encode('utf-8', 'replace')).hexdigest()[:8]}"


def file_name(name: str, role: str, path: str = "") -> str:
    """Return a portable name for a device's file, with the role and the path of a driver if they are not empty."""
    stem, suffix = os.path.splitext(re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("._") or "file")
    return "-".join(filter(None, [stem[:_NAME_LENGTH], role, path.replace(".", "-")])) + suffix[:_NAME_LENGTH]

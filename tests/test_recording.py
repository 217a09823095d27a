"""The log that a console's output goes into: nothing is lost that it has room for, and its room is bounded."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from pytest_jumpstarter.device import recording
from pytest_jumpstarter.device.recording import Recording
from pytest_jumpstarter.host import real_files, real_time


def everything(recorded: Recording, position: int = 0) -> bytes:
    """Return all that is still kept, read in small pieces."""
    parts: list[bytes] = []
    while True:
        position, data = recorded.read(position, 7)
        if not data:
            return b"".join(parts)
        parts.append(data)


def test_what_goes_in_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of any size come out as they went in, across segments; of too much the oldest segment goes."""
    monkeypatch.setattr(recording, "SEGMENT_BYTES", 100)
    recorded = Recording()
    assert (recorded.read(0, 10), recorded.tail(0, 10)) == ((0, b""), (0, b""))
    data = bytes(number % 251 for number in range(700))
    for start in range(0, 700, 45):
        recorded.append(data[start : start + 45])
    assert (recorded.start, recorded.end, everything(recorded)) == (0, 700, data)
    assert everything(recorded, 650) == data[650:]
    assert recorded.tail(100, 150) == (550, data[550:])
    recorded.append(data)
    assert (recorded.start, recorded.end) == (600, 1400)
    assert everything(recorded) == (data + data)[600:]
    assert recorded.tail(0, 10_000) == (600, (data + data)[600:])


def test_times_are_those_of_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte has the time at which it came; of very many times, half are dropped again and again."""
    now = 1000.0
    monkeypatch.setattr(real_time, "time", lambda: now)
    monkeypatch.setattr(recording, "_STAMPS", 8)
    recorded = Recording()
    for number in range(8):
        now = 1000.0 + number
        recorded.append(b"ab")
    assert [recorded.time_of(position) for position in (0, 1, 2, 15)] == [1000, 1000, 1001, 1007]
    for number in range(8, 20):
        now = 1000.0 + number
        recorded.append(b"ab")
    assert recorded.time_of(0) == 1000
    assert recorded.time_of(39) == 1019
    assert 1005 <= recorded.time_of(20) <= 1010


def test_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the disk is full, what comes is kept in memory, and when there is room again on disk."""
    opened: list[int] = []

    def temporary_file(**options: Any) -> Any:
        opened.append(len(opened))
        if len(opened) == 2:
            raise OSError("no room for a file at all")
        return open("/dev/full" if len(opened) == 1 else tmp_path / str(len(opened)), "w+b", buffering=0)

    monkeypatch.setattr(real_files, "unnamed_file", temporary_file)
    monkeypatch.setattr(recording, "_SEGMENT_BYTES_IN_MEMORY", 10)
    recorded = Recording()
    recorded.append(b"0123456789abcdefghijABCDEFGHIJ")
    assert everything(recorded) == b"0123456789abcdefghijABCDEFGHIJ"
    assert len(opened) == 3


def test_reader_beside_a_writer() -> None:
    """A reader in another thread gets each byte once, in order."""
    recorded, block = Recording(), os.urandom(65_536)

    def write() -> None:
        for _ in range(64):
            recorded.append(block)

    writer = threading.Thread(target=write)
    writer.start()
    position, seen = 0, []
    while position < 64 * len(block) and (writer.is_alive() or position < recorded.end):
        position, data = recorded.read(position, 50_000)
        seen.append(data)
    writer.join()
    assert b"".join(seen) == block * 64

"""
`Recording`: the output of a console, byte for byte, and when it came.

It is a log on disk. Each reader has a position of its own: the report, a test that has not read yet, a driver that
opened the console. So a slow reader neither stops the board nor fills the memory.
"""

from __future__ import annotations

import io
import threading
import weakref
from array import array
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass

from pytest_jumpstarter.host import real_files, real_time

SEGMENT_BYTES = 16 << 20
SEGMENTS = 8
"""The last 7 to 8 segments of the output of one lease are kept."""

_SEGMENT_BYTES_IN_MEMORY = 1 << 20  # of a segment for which the disk had no room
_STAMPS = 1 << 16
_RESOLUTION = 0.005


@dataclass(slots=True)
class _Segment:
    start: int
    file: io.RawIOBase | io.BytesIO
    limit: int
    size: int = 0

    @property
    def stop(self) -> int:
        return self.start + self.size


class Recording:
    """
    The output of one console; positions are counted from its first byte.

    May be used from any thread. The files have no names and disappear with this object.

    Attributes:
        end: The number of bytes that were recorded.
    """

    def __init__(self) -> None:
        self.end = 0
        self._segments: deque[_Segment] = deque()
        self._stamps: tuple[array[int], array[float]] = array("q"), array("d")
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._segments)

    @property
    def start(self) -> int:
        """The position of the first byte that is still kept."""
        return self._segments[0].start if self._segments else self.end

    def append(self, data: bytes) -> None:
        """Add output that just came; if the disk is full it is kept in memory, and much less of it."""
        with self._lock:
            self._stamp()
            rest = memoryview(data)
            while rest:
                rest = rest[self._write(rest) :]

    def read(self, position: int, size: int) -> tuple[int, bytes]:
        """
        Return the position after the bytes that were read, and up to `size` bytes from `position`.

        If `position` is no longer kept, reading starts at the first byte that is. There are no bytes at the end.
        """
        with self._lock:
            position = max(position, self.start)
            for segment in self._segments:
                if segment.start <= position < segment.stop:
                    segment.file.seek(position - segment.start)
                    data = segment.file.read(min(size, segment.stop - position)) or b""
                    return position + len(data), data
            return position, b""

    def between(self, position: int, end: int) -> bytes:
        """Return the bytes between two positions, as far as they are kept."""
        parts: list[bytes] = []
        while position < end:
            position, data = self.read(position, end - position)
            if not data:
                break
            parts.append(data)
        return b"".join(parts)

    def tail(self, position: int, size: int) -> tuple[int, bytes]:
        """Return where the last `size` bytes (roughly) since `position` begin, and these bytes."""
        position = begin = max(position, self.end - size, self.start)
        parts: list[bytes] = []
        while position < begin + 2 * size:  # output may come faster than we read
            position, data = self.read(position, size)
            if not data:
                break
            parts.append(data)
        return begin, b"".join(parts)

    def time_of(self, position: int) -> float:
        """Return the Unix time at which the byte at `position` came, to some milliseconds; older ones less exactly."""
        with self._lock:
            positions, times = self._stamps
            return times[max(0, bisect_right(positions, position) - 1)] if times else real_time.time()

    def _write(self, data: memoryview) -> int:
        segment = self._segments[-1] if self._segments else None
        if segment is None or segment.size >= segment.limit:
            segment = self._add(on_disk=True)
        try:
            segment.file.seek(segment.size)
            count = segment.file.write(data[: segment.limit - segment.size]) or 0
        except OSError:
            segment.limit = segment.size
            self._add(on_disk=False)
            return 0
        segment.size += count
        self.end += count
        return count

    def _add(self, *, on_disk: bool) -> _Segment:
        """Start a new segment, and drop the oldest if there are too many."""
        segment = _Segment(self.end, io.BytesIO(), _SEGMENT_BYTES_IN_MEMORY)
        if on_disk:
            try:
                file = real_files.unnamed_file()
                segment = _Segment(self.end, file, SEGMENT_BYTES)
            except OSError:
                pass
        self._segments.append(segment)
        if len(self._segments) > SEGMENTS:
            self._segments.popleft().file.close()
        return segment

    def _stamp(self) -> None:
        """Note when the next byte came; if there are too many notes, drop every second one."""
        positions, times = self._stamps
        now = real_time.time()
        if times and (now - times[-1] < _RESOLUTION or positions[-1] == self.end):
            return
        if len(times) >= _STAMPS:
            self._stamps = positions, times = positions[::2], times[::2]
        positions.append(self.end)
        times.append(now)


def _close(segments: deque[_Segment]) -> None:
    for segment in segments:
        segment.file.close()

"""
Answers that are changed at random: other bytes, other fields, missing ones.

The environment variable PYTEST_JUMPSTARTER_FUZZ says how many there are, and from which seed: `10000:4711`. What the
n-th call of a method in a round is answered depends on nothing else, so a seed shows the same again.
"""

from __future__ import annotations

import gc
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

FEW, SEED = 400, 15
MOST_MEMORY = 32 * 2**20
LONGEST = 20.0  # seconds for one round, on a busy machine
TEXTS = (
    "", " ", "x", "a/b", "namespaces/lab/leases/x", "namespaces/lab/exporters/b", "namespaces//exporters/", "..",
    "\x1b[31mred\x1b[0m", "::error::x", "line\nline", "\x00", "\u202e", "ö" * 300, "9" * 5000, "None", "True",
    "False", "Ready", "Unsatisfiable", "Pending", "[HOOK_WARNING] x", "beforeLease hook", "jumpstarter.dev/name",
    "jumpstarter.dev/client", "jumpstarter_driver_power.client.PowerClient", "os.system", "not found", "127.0.0.1:1",
    "7" * 36, "d6bc9f3c-9b0a-4d0e-8a55-1c6e4b1f0e11",
)  # fmt: skip
NUMBERS = (0, 1, 2, 3, 4, 5, 6, 7, 99, -1, 10**9, -(10**9), 2**31 - 1, -(2**31), 2**62, -(2**62), 2**63 - 1)
FLOATS = (0.0, -1.5, 1e308, float("inf"), float("nan"))
ERRORS = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED)


def wanted(text: str | None = None) -> tuple[int, int]:
    """Return the number of mutations for each test, and the seed."""
    number, _, seed = (os.environ.get("PYTEST_JUMPSTARTER_FUZZ", "") if text is None else text).partition(":")
    return int(number or FEW), int(seed or SEED)


class Mutations:
    """
    The changed answers of one test.

    Attributes:
        count: How many answers were changed so far.
    """

    def __init__(self) -> None:
        self.number, self.seed = wanted()
        self.count = 0
        self._round = 0
        self._calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def source(self, method: str) -> random.Random:
        """Return what decides on the next call of a method."""
        with self._lock:
            self._calls[method] += 1
            return random.Random(f"{self.seed}-{self._round}-{method}-{self._calls[method]}")

    def of(self, method: str, good: Message, context: grpc.ServicerContext | None = None) -> Message:
        """Return the answer to the next call of a method: like `good`, but changed; seldom abort `context` instead."""
        source = self.source(method)
        if context is not None and source.random() < 0.03:
            self.note()
            context.abort(source.choice(ERRORS), source.choice(TEXTS))
        message = mutated(source, good)
        if message != good:
            self.note()
        return message

    def note(self) -> None:
        """Count one."""
        with self._lock:
            self.count += 1

    def rounds(self, act: Callable[[], object], *, share: float = 1.0) -> None:
        """
        Act until there were as many mutations as wanted; a foreign error fails the test, and so does a long round.

        What the first rounds need is imports and caches. From then on memory must not grow, however many there are.

        Args:
            act: One round.
            share: The part of the mutations that this test takes.
        """
        number, settled = max(1, int(self.number * share)), 0
        while self.count < number:
            self._round += 1
            self._calls.clear()
            where = f"round {self._round} of seed {self.seed}"
            assert self._round <= number, f"{where}: only {self.count} mutations"
            began = time.monotonic()
            try:
                act()
            except Exception as error:
                error.add_note(where)
                raise
            assert time.monotonic() - began < LONGEST, where
            if not settled and self.count >= number / 4:
                settled = memory()
        grown = f"memory grew by {(growth := memory() - settled) / 2**20:.1f} MiB"
        print(f"{self.count} mutations in {self._round} rounds of seed {self.seed}: {grown}")
        assert growth < MOST_MEMORY, f"{self._round} rounds of seed {self.seed}: {grown}"


def scalar(source: random.Random, field: FieldDescriptor) -> Any:
    """Return a value for a field that is no message."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        text = source.choice(TEXTS)
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return source.random() < 0.5
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return source.choice(FLOATS)
    number = source.choice(NUMBERS)
    small = field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_ENUM)
    lowest = 0 if field.cpp_type in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64) else -(2**63)
    return max(lowest, number % 2**31 if small else number)


def spoil(source: random.Random, message: Any, share: float, depth: int = 0) -> None:
    """Give a share of the fields of a message other values."""
    for field in message.DESCRIPTOR.fields:
        if source.random() > share or depth > 3:
            continue
        if source.random() < 0.2:
            message.ClearField(field.name)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            entries, value = getattr(message, field.name), field.message_type.fields_by_name["value"]
            if value.message_type is None:
                entries[source.choice(TEXTS)] = source.choice(TEXTS)
            else:
                spoil(source, entries[source.choice(TEXTS)], 0.7, depth + 1)
        elif field.is_repeated and field.message_type is not None:
            for _ in range(source.choice((1, 2, 5))):
                spoil(source, getattr(message, field.name).add(), 0.7, depth + 1)
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            spoil(source, getattr(message, field.name), 0.7, depth + 1)
        elif not field.is_repeated:
            setattr(message, field.name, scalar(source, field))


def mutated(source: random.Random, good: Message) -> Message:
    """Return a message like `good`, with some bytes or some fields changed."""
    message = type(good)()
    message.CopyFrom(good)
    data = bytearray(good.SerializeToString())
    if data and source.random() < 0.3:
        try:
            return type(good).FromString(bytes(scrambled(source, data)))
        except DecodeError:
            return message
    spoil(source, message, source.choice((0.1, 0.4, 0.9)))
    return message


def scrambled(source: random.Random, data: bytearray) -> bytearray:
    """Change some bytes."""
    for _ in range(source.choice((1, 3, 10))):
        data[source.randrange(len(data))] = source.randrange(256)
    return data


def memory() -> int:
    """Return the bytes of memory that this process has now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

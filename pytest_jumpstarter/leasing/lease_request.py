"""What a role needs, the request to the lab controller, and lease ids."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_jumpstarter.leasing.origin import Origin
from pytest_jumpstarter.selector import Selector

DEFAULT_DURATION = 30 * 60.0
"""Seconds for a lease that cannot be extended; the default of Jumpstarter's own client."""

DEFAULT_TTL = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """
    How long a lease lasts.

    Attributes:
        ttl: The longest time in seconds for which the lease outlives this process: its duration before extensions.
        max_hold: The longest time in seconds for which the lease is in use; None for no limit.
    """

    ttl: float = DEFAULT_TTL
    max_hold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """
    The device that one role needs; `selector`, `exporter` or `lease` is set, unless the device needs no lease.

    Attributes:
        role: The name of the fixture.
        selector: Label selector that the exporter must match.
        exporter: Name that the exporter must have.
        lease: Name of an existing lease to use.
        source: Where selector and exporter were given, for messages: `--jmp-selector`, ….
        lease_source: Where the lease was given, for messages.
        wait: The longest time in seconds to wait for the lease.
        allow_disabled: Whether the exporter may be disabled; only one that is named can be leased then.
        preferred: Selectors in the markers of tests that use this device. Without such a board these tests are skipped,
            so a board that matches is preferred.
        listed: The exporters from among which `exporter` was taken, when they were listed (`--jmp-each`).
    """

    role: str
    selector: str | None = None
    exporter: str | None = None
    lease: str | None = None
    source: str = ""
    lease_source: str = ""
    wait: float = 30 * 60.0
    allow_disabled: bool = False
    preferred: tuple[str, ...] = field(default=(), compare=False)
    listed: tuple[str, ...] = field(default=(), compare=False)

    def fits(self, name: str, labels: Mapping[str, str]) -> bool:
        """Return whether an exporter with this name and these labels matches."""
        is_named = self.exporter in (None, name)
        return is_named and (self.selector is None or Selector.parse(self.selector).matches(labels))

    def __str__(self) -> str:
        parts = [self.lease and f"lease {self.lease}", self.exporter and f"exporter {self.exporter}", self.selector]
        return ", ".join(filter(None, parts)) or "any device"


@dataclass(slots=True, kw_only=True)
class LeaseRequest:
    """
    A lease that is about to be requested; `pytest_jumpstarter_lease_request` may change it.

    Attributes:
        selector: Label selector; None if only `exporter` counts.
        exporter: Name of the exporter; None for any that matches.
        duration: Seconds, counted from the moment the lease is Ready; it is extended while the run needs it.
        tags: At most 10 with the tag `lease`, which is added later; keys and values as Kubernetes labels, keys without
            a slash.
        context: Passed to the exporter, if the lab supports that: at most 8 entries, with keys of up to 32 and values
            of up to 64 characters.
        allow_disabled: Whether `exporter` may be disabled.
    """

    selector: str | None
    exporter: str | None
    duration: float = DEFAULT_TTL
    tags: dict[str, str] = field(default_factory=dict)
    context: dict[str, str] = field(default_factory=dict)
    allow_disabled: bool = False


class LeaseIds:
    """
    The names of the leases of one process: `pj-RUN-WORKER-N`. A run recognizes its leases by them.

    No name is used twice, because the lab controller keeps ended leases and their names.

    Args:
        run: The id of the run, the same in all its processes; generated if empty.
        worker: The name of the process.
    """

    def __init__(self, *, run: str = "", worker: str = "main") -> None:
        self.run = run or secrets.token_hex(4)
        self.worker = re.sub(r"[^a-z0-9]+", "-", worker.lower()).strip("-")[:20] or "main"
        self._numbers = itertools.count(1)

    @property
    def prefix(self) -> str:
        """The prefix of all names of this process, and of no others."""
        return f"pj-{self.run}-{self.worker}-"

    def next(self) -> str:
        """Return the next name."""
        return f"{self.prefix}{next(self._numbers)}"


def lease_tags(origin: Origin, *, run: str) -> dict[str, str]:
    """Return the tags of every lease of this run, without those that are unknown; `OwnTags` adds the id of each."""
    tags = {
        "managed-by": "pytest-jumpstarter",
        "run": run,
        "ci-job": origin.job,
        "ci-build": origin.build,
        "commit": origin.commit,
    }
    return {key: label for key, value in tags.items() if (label := _as_label(value))}


def lease_context(origin: Origin) -> dict[str, str]:
    """Return the context of a lease: commit, build and job, if they are known; long values are shortened."""
    return {
        name: value[:64] for name, value in origin._asdict().items() if value and name in ("commit", "build", "job")
    }


def _as_label(text: str) -> str:
    """Return `text` as the value of a label: at most 63 characters; characters that are not allowed become dashes."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:63].strip("-_.")

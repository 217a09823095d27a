"""What is wanted, what is asked of the lab controller, and lease ids."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_jumpstarter.ci import Origin
from pytest_jumpstarter.selector import Selector

DEFAULT_DURATION = 30 * 60.0
"""Seconds for a lease that cannot be extended; Jumpstarter's own client asks for as much."""

DEFAULT_TTL = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """
    For how long a lease is ours.

    Attributes:
        ttl: Seconds the lease outlives this process at most: it is asked for no longer, and extended in time.
        max_hold: Seconds it is held at most; None for as long as it takes.
    """

    ttl: float = DEFAULT_TTL
    max_hold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """
    The device one role asks for; at least one of the first three is set, or it is given to us.

    Attributes:
        role: The name of the fixture.
        selector: Label selector that the exporter must match.
        exporter: Name that the exporter must have.
        lease: Name of an existing lease to use.
        source: Words for where selector and exporter were said, for messages: `--jmp-selector`, ….
        lease_source: Words for where the lease was named.
        wait: Seconds to wait in the queue at most.
        hopes: Selectors that tests of this device ask for besides, and are skipped without: such a board is preferred.
    """

    role: str
    selector: str | None = None
    exporter: str | None = None
    lease: str | None = None
    source: str = ""
    lease_source: str = ""
    wait: float = 30 * 60.0
    hopes: tuple[str, ...] = field(default=(), compare=False)

    def fits(self, name: str, labels: Mapping[str, str]) -> bool:
        """Tell whether the exporter of that name, with these labels, will do."""
        is_named = self.exporter in (None, name)
        return is_named and (self.selector is None or Selector.parse(self.selector).matches(labels))

    def __str__(self) -> str:
        parts = [self.lease and f"lease {self.lease}", self.exporter and f"exporter {self.exporter}", self.selector]
        return ", ".join(filter(None, parts)) or "any device"


@dataclass(slots=True, kw_only=True)
class LeaseRequest:
    """
    A lease about to be asked for; `pytest_jumpstarter_lease_request` may change it.

    Attributes:
        selector: Label selector, or None where `exporter` says enough.
        exporter: Name of the one exporter that will do, or None.
        duration: Seconds, counted from the moment the lease is Ready; it is extended while the run needs it.
        tags: At most 10; keys and values as Kubernetes labels, keys without a slash.
        context: What the exporter is told, where the lab knows how: at most 8 entries, of 32 and 64 characters.
    """

    selector: str | None
    exporter: str | None
    duration: float = DEFAULT_TTL
    tags: dict[str, str] = field(default_factory=dict)
    context: dict[str, str] = field(default_factory=dict)


class LeaseIds:
    """
    The names of one process's leases: `pj-RUN-WORKER-N`, by which a run knows its own.

    Names are never used twice: the lab controller keeps ended leases and their names.

    Args:
        run: What all processes of the run have in common; made up if empty.
        worker: The name of the process.
    """

    def __init__(self, *, run: str = "", worker: str = "main") -> None:
        self.run = run or secrets.token_hex(4)
        self.worker = re.sub(r"[^a-z0-9]+", "-", worker.lower()).strip("-")[:20] or "main"
        self._numbers = itertools.count(1)

    @property
    def prefix(self) -> str:
        """What all names of the process begin with, and no others."""
        return f"pj-{self.run}-{self.worker}-"

    def next(self) -> str:
        """Return the next name."""
        return f"{self.prefix}{next(self._numbers)}"


def lease_tags(origin: Origin, *, run: str, worker: str) -> dict[str, str]:
    """Return the tags of a lease of this run; those of which nothing is known are left out."""
    tags = {
        "managed-by": "pytest-jumpstarter",
        "run": run,
        "worker": worker,
        "ci-job": origin.job,
        "ci-build": origin.build,
        "commit": origin.commit,
    }
    return {key: label for key, value in tags.items() if (label := _as_label(value))}


def lease_context(origin: Origin) -> dict[str, str]:
    """Return the context of a lease: commit, build and job, as far as they are known and there is room."""
    return {
        name: value[:64] for name, value in origin._asdict().items() if value and name in ("commit", "build", "job")
    }


def _as_label(text: str) -> str:
    """Return `text` as a label's value: what cannot be in one becomes a dash, and 63 characters are enough."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:63].strip("-_.")

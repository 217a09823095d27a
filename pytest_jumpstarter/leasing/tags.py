"""Tags by which people recognise a lease: which run, which worker, which job of which CI system."""

from __future__ import annotations

import re

from pytest_jumpstarter.ci import Origin


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

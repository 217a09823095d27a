"""Tags by which people recognise a lease: which run, which worker, which job of which CI system."""

from __future__ import annotations

import re
from collections.abc import Mapping

# The variables of each CI system for the job's name and the build's number; the first that is set counts.
_JOB = ("GITHUB_JOB", "CI_JOB_NAME", "BUILDKITE_LABEL", "JOB_NAME")
_BUILD = ("GITHUB_RUN_ID", "CI_PIPELINE_ID", "BUILDKITE_BUILD_NUMBER", "BUILD_NUMBER")


def lease_tags(environ: Mapping[str, str], *, run: str, worker: str) -> dict[str, str]:
    """
    Return the tags of a lease of this run; those of which the environment tells nothing are left out.

    Source: GitHub Actions, GitLab CI, Buildkite and Jenkins, their documentation of predefined variables
    """
    tags = {
        "managed-by": "pytest-jumpstarter",
        "run": run,
        "worker": worker,
        "ci-job": next((environ[name] for name in _JOB if environ.get(name)), ""),
        "ci-build": next((environ[name] for name in _BUILD if environ.get(name)), ""),
    }
    return {key: label for key, value in tags.items() if (label := _as_label(value))}


def _as_label(text: str) -> str:
    """Return `text` as a label's value: what cannot be in one becomes a dash, and 63 characters are enough."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:63].strip("-_.")

"""The origin of a run: its commit, and the build and job of its CI system."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

_GIT_TIMEOUT = 5.0

# For each CI system: the variable that identifies it, then those for commit, build, job and the build's page.
_SYSTEMS = {
    "github": ("GITHUB_ACTIONS", "GITHUB_SHA", "GITHUB_RUN_ID", "GITHUB_JOB", ""),
    "gitlab": ("GITLAB_CI", "CI_COMMIT_SHA", "CI_PIPELINE_ID", "CI_JOB_NAME", "CI_JOB_URL"),
    "buildkite": (
        "BUILDKITE",
        "BUILDKITE_COMMIT",
        "BUILDKITE_BUILD_NUMBER",
        "BUILDKITE_LABEL",
        "BUILDKITE_BUILD_URL",
    ),
    "jenkins": ("JENKINS_URL", "GIT_COMMIT", "BUILD_NUMBER", "JOB_NAME", "BUILD_URL"),
}


class Origin(NamedTuple):
    """
    The origin of a run; a field is empty if it is unknown.

    Source: GitHub Actions, GitLab CI, Buildkite and Jenkins, their documentation of predefined variables
    """

    ci: str = ""
    commit: str = ""
    build: str = ""
    job: str = ""
    url: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, str], folder: Path) -> Self:
        """Return the values of the CI system's variables; without them, the commit is read from git in `folder`."""
        system = next((name for name, variables in _SYSTEMS.items() if environ.get(variables[0])), "")
        facts = [environ.get(name, "") for name in _SYSTEMS[system][1:]] if system else [""] * 4
        if system == "github":
            facts[3] = _github_url(environ)
        return cls(system, facts[0] or _commit(folder), *facts[1:])


def _github_url(environ: Mapping[str, str]) -> str:
    parts = [environ.get(name, "") for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    return "{}/{}/actions/runs/{}".format(*parts) if all(parts) else ""


def _commit(folder: Path) -> str:
    """Return the commit from git; empty if git is missing, refuses the folder of another user, or is too slow."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "--verify", "--quiet", "HEAD"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT,
            check=False,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

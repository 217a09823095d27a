"""Where a run comes from, by the variables of each CI system, else by git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.leasing.lease_request import lease_context, lease_tags
from pytest_jumpstarter.leasing.origin import Origin

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SHA": "c0ffee",
    "GITHUB_RUN_ID": "12",
    "GITHUB_JOB": "boards",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "a/b",
}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_COMMIT_SHA": "c0ffee",
    "CI_PIPELINE_ID": "12",
    "CI_JOB_NAME": "boards",
    "CI_JOB_URL": "https://gitlab.com/a/b/-/jobs/3",
}
BUILDKITE = {
    "BUILDKITE": "true",
    "BUILDKITE_COMMIT": "c0ffee",
    "BUILDKITE_BUILD_NUMBER": "12",
    "BUILDKITE_LABEL": "boards",
    "BUILDKITE_BUILD_URL": "https://buildkite.com/a/b/builds/12",
}
JENKINS = {
    "JENKINS_URL": "https://ci/",
    "GIT_COMMIT": "c0ffee",
    "BUILD_NUMBER": "12",
    "JOB_NAME": "boards",
    "BUILD_URL": "https://ci/job/boards/12/",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a git repository with one commit."""
    names = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    for command in (["init", "--quiet"], [*names, "commit", "--quiet", "--allow-empty", "--message=first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("environ", "origin"),
    [
        (GITHUB, Origin("github", "c0ffee", "12", "boards", "https://github.com/a/b/actions/runs/12")),
        (GITLAB, Origin("gitlab", "c0ffee", "12", "boards", "https://gitlab.com/a/b/-/jobs/3")),
        (BUILDKITE, Origin("buildkite", "c0ffee", "12", "boards", "https://buildkite.com/a/b/builds/12")),
        (JENKINS, Origin("jenkins", "c0ffee", "12", "boards", "https://ci/job/boards/12/")),
    ],
    ids=lambda value: getattr(value, "ci", ""),
)
def test_ci_system(environ: dict[str, str], origin: Origin, tmp_path: Path) -> None:
    """Each CI system's variables tell commit, build, job and the build's page."""
    assert Origin.of(environ, tmp_path) == origin


def test_git_tells_the_commit(repository: Path) -> None:
    """Outside of CI, and where a CI system does not tell it, git tells the commit, and nothing else is known."""
    head = ["git", "-C", str(repository), "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    assert Origin.of({}, repository) == Origin(commit=commit)
    assert Origin.of({"JENKINS_URL": "https://ci/"}, repository).commit == commit


def test_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a repository, in one without a commit and without git, nothing is known and nothing fails."""
    assert Origin.of({}, tmp_path) == Origin()
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert Origin.of({}, tmp_path) == Origin()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Origin.of({}, tmp_path) == Origin()


def test_tags_leave_out_what_is_not_known() -> None:
    """A lease has the tags of which something is known, none of them empty."""
    assert lease_tags(Origin(), run="1").keys() == {"managed-by", "run"}
    assert lease_tags(Origin("jenkins", "c0ffee", "12", "a/b"), run="1")["ci-job"] == "a-b"


def test_context_keeps_its_limits() -> None:
    """The context of a lease holds commit, build and job, none longer than the lab controller takes."""
    context = lease_context(Origin("jenkins", "c0ffee", "", "j" * 100, "https://ci/"))
    assert context == {"commit": "c0ffee", "job": "j" * 64}


def test_context_is_left_out_where_it_is_not_known(client: Client) -> None:
    """A lease is to be had with a context, whether the installed stubs know of it or not."""
    context = {"commit": "c0ffee"}
    lease = client.create_lease(lease_id="with-context", exporter_name="mock-1", duration=30, context=context)
    client.delete_lease(lease.name)

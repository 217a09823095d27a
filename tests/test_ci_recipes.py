"""The recipes in `examples/ci`: each is what its CI system takes, and uses options that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_jumpstarter.options import OPTIONS

RECIPES = Path(__file__).parent.parent / "examples" / "ci"
NAMES = ("github.yml", "gitlab.yml", "buildkite.yml", "Jenkinsfile")
CONNECTION = {"JMP_NAMESPACE", "JMP_NAME", "JMP_DRIVERS_ALLOW"}


def load(name: str) -> Any:
    """Return what a YAML recipe says."""
    return yaml.safe_load((RECIPES / name).read_text())


def pytest_line(text: str) -> list[str]:
    """Return the words of the one call of pytest in a recipe."""
    [line] = re.findall(r"^.*?(?:^|\s|/)pytest (--jmp.*)$", text.replace("\\\n", " "), re.MULTILINE)
    return shlex.split(line.partition("||")[0])


def test_all_recipes_are_tested() -> None:
    """The list above is complete, and README has each."""
    readme = (RECIPES.parent.parent / "README.md").read_text()
    assert sorted(path.name for path in RECIPES.iterdir()) == sorted(NAMES)
    assert all(f"(examples/ci/{name})" in readme for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_options_exist(pytester: pytest.Pytester, name: str) -> None:
    """Every option of ours in a recipe exists."""
    used = set(re.findall(r"--jmp-[a-z-]+", (RECIPES / name).read_text()))
    assert {"--jmp-selector", "--jmp-report", "--jmp-artifacts"} <= used <= {option.flag for option in OPTIONS}


@pytest.mark.parametrize(
    "line",
    [
        pytest_line(load("github.yml")["jobs"]["boards"]["steps"][3]["run"]),
        pytest_line(load("gitlab.yml")["boards"]["script"][1]),
        pytest_line(load("buildkite.yml")["steps"][0]["command"]),
        pytest_line((RECIPES / "Jenkinsfile").read_text().replace("\\\n", " ")),
    ],
    ids=["github", "gitlab", "buildkite", "jenkins"],
)
def test_command_runs(pytester: pytest.Pytester, line: list[str]) -> None:
    """The command line of a recipe is one that pytest takes, and leaves the files that the recipe collects."""
    pytester.makepyfile("def test_it(): pass")
    pytester.runpytest(*line).assert_outcomes(passed=1)
    assert {"junit.xml", "run.html", "run.json", "artifacts"} <= {
        path.name for path in pytester.path.joinpath("out").iterdir()
    }


def test_github() -> None:
    """GitHub: cancelled by a newer push, signals reach pytest, files and summary come whatever happens."""
    recipe = load("github.yml")
    job = recipe["jobs"]["boards"]
    *_, run, summary, upload = job["steps"]
    assert recipe["concurrency"]["cancel-in-progress"] is True
    assert run["run"].startswith("exec pytest")
    assert run["env"].keys() >= CONNECTION | {"JMP_TOKEN"}
    assert "GITHUB_STEP_SUMMARY" in summary["run"]
    assert (summary["if"], upload["if"], upload["with"]["path"]) == ("always()", "always()", "out/")


def test_gitlab() -> None:
    """GitLab: interruptible, retried for device errors only, JUnit and page as artifacts whatever happens."""
    job = load("gitlab.yml")["boards"]
    assert job["variables"].keys() >= CONNECTION
    assert (job["interruptible"], job["retry"]["exit_codes"]) == (True, [8])
    assert (job["artifacts"]["when"], job["artifacts"]["reports"]["junit"]) == ("always", "out/junit.xml")


def test_buildkite() -> None:
    """Buildkite: the exit code is pytest's though a summary follows, and only device errors are retried."""
    [step] = load("buildkite.yml")["steps"]
    assert step["env"].keys() >= CONNECTION
    assert step["command"].rstrip().endswith("exit $$status")
    assert "buildkite-agent annotate" in step["command"]
    assert step["retry"]["automatic"][0]["exit_status"] == 8


def test_jenkins() -> None:
    """Jenkins: a declarative pipeline whose braces close, which aborts a former build and collects always."""
    text = (RECIPES / "Jenkinsfile").read_text()
    bare = re.sub(r"'''.*?'''|'[^']*'|//[^\n]*", "", text, flags=re.DOTALL)
    depth = 0
    for character in re.findall(r"[{}]", bare):
        depth += 1 if character == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert re.search(r"post \{\s+always \{\s+junit .*\s+archiveArtifacts ", text)
    assert "abortPrevious: true" in text
    assert all(name in text for name in CONNECTION)

"""The recipes in `examples/ci` and the workflows of this project: their CI systems take them, and they fit the code."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_jumpstarter.options import OPTIONS

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "examples" / "ci"
NAMES = (
    "github.yml", "github-retry.yml", "gitlab.yml", "buildkite.yml", "Jenkinsfile", "forgejo.yml", "tekton.yml",
    "Containerfile",
)  # fmt: skip
TESTING = ("github.yml", "gitlab.yml", "buildkite.yml", "Jenkinsfile", "forgejo.yml", "tekton.yml")
CONNECTION = {"JMP_NAMESPACE", "JMP_NAME", "JMP_DRIVERS_ALLOW"}
REPORTS = {"--jmp-report=out/run.html", "--jmp-report=out/run.json", "--jmp-report=out/run.md"}


def load(name: str) -> Any:
    """Return what a YAML recipe says."""
    return yaml.safe_load((RECIPES / name).read_text())


def task() -> Any:
    """Return the task of the Tekton recipe."""
    return next(yaml.safe_load_all((RECIPES / "tekton.yml").read_text()))


def step_of(name: str, step: str) -> Any:
    """Return a step of a job by its name."""
    return next(each for each in load(name)["jobs"]["boards"]["steps"] if each.get("name") == step)


def pytest_line(text: str) -> list[str]:
    """Return the words of the one call of pytest in a recipe, for one kind of board."""
    plain = re.sub(r"\$\{\{.*?\}\}|\{\{.*?\}\}|\$BOARD|\$\(params.board\)", "rpi4", text.replace("\\\n", " "))
    [line] = re.findall(r"^.*?(?:^|\s|/)pytest (--jmp.*)$", plain, re.MULTILINE)
    return shlex.split(line.partition("||")[0])


LINES: dict[str, Callable[[], str]] = {
    "github": lambda: step_of("github.yml", "Test on boards")["run"],
    "forgejo": lambda: step_of("forgejo.yml", "Test on boards")["run"],
    "gitlab": lambda: load("gitlab.yml")["boards"]["script"][1],
    "buildkite": lambda: load("buildkite.yml")["steps"][0]["command"],
    "jenkins": (RECIPES / "Jenkinsfile").read_text,
    "tekton": lambda: "pytest " + " ".join(task()["spec"]["steps"][0]["args"]),
}


def test_all_recipes_are_tested() -> None:
    """The list above is complete, and the page about CI has each."""
    page = (ROOT / "docs" / "howto" / "ci.md").read_text()
    assert sorted(path.name for path in RECIPES.iterdir() if path.name != "README.md") == sorted(NAMES)
    assert all(f"examples/ci/{name}\n" in page for name in NAMES)


@pytest.mark.parametrize("name", TESTING)
def test_options_exist(pytester: pytest.Pytester, name: str) -> None:
    """Every option of ours in a recipe exists; each recipe retries device errors, and keeps reports and evidence."""
    used = set(re.findall(r"--jmp-[a-z-]+", (RECIPES / name).read_text()))
    needed = {"--jmp-selector", "--jmp-report", "--jmp-artifacts", "--jmp-retries", "--jmp-wait"}
    assert needed <= used <= {option.flag for option in OPTIONS}


@pytest.mark.parametrize("name", LINES)
def test_command_runs(pytester: pytest.Pytester, name: str) -> None:
    """The command line of a recipe is one that pytest takes, and leaves the files that the recipe collects."""
    line = pytest_line(LINES[name]())
    assert {"board=rpi4", "--jmp-selector=board=rpi4"} & set(line)
    assert {"auto", "--numprocesses=auto"} & set(line)
    assert set(line) >= REPORTS
    few = [word.replace("--numprocesses=auto", "-n1").replace("auto", "1") for word in line]  # no lab is there to ask
    pytester.makepyfile("def test_it(): pass")
    pytester.runpytest(*few).assert_outcomes(passed=1)
    assert {"junit.xml", "run.html", "run.json", "run.md", "artifacts"} <= {
        path.name for path in pytester.path.joinpath("out").iterdir()
    }


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", ["examples/ci/github*.yml", "examples/ci/forgejo.yml", ".github/workflows/*.yml"]),
        ("gitlab-ci", ["examples/ci/gitlab.yml"]),
        ("buildkite", ["examples/ci/buildkite.yml"]),
        ("dependabot", [".github/dependabot.yml"]),
        ("github-issue-forms", [".github/ISSUE_TEMPLATE/bug.yml", ".github/ISSUE_TEMPLATE/feature.yml"]),
    ],
)
def test_schema(schema: str, files: list[str]) -> None:
    """Recipes and workflows fit the schema of their system."""
    pytest.importorskip("check_jsonschema")
    paths = [str(path) for pattern in files for path in ROOT.glob(pattern)]
    assert len(paths) >= len(files)
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *paths]
    if schema == "gitlab-ci":
        command += ["--data-transform", "gitlab-ci"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_github() -> None:
    """GitHub: few rights, cancelled by a newer push, signals reach pytest, files come whatever happens."""
    recipe = load("github.yml")
    run, summary, upload, mark = recipe["jobs"]["boards"]["steps"][-4:]
    assert recipe["permissions"] == {"contents": "read"}
    assert recipe["concurrency"]["cancel-in-progress"] is True
    assert run["run"].startswith("exec pytest")
    assert run["env"].keys() >= CONNECTION | {"JMP_TOKEN"}
    assert "GITHUB_STEP_SUMMARY" in summary["run"]
    assert (summary["if"], upload["if"], upload["with"]["path"]) == ("always()", "always()", "out/")
    assert "steps.summary.outputs.code == '8'" in mark["if"]
    retry = load("github-retry.yml")
    assert retry[True]["workflow_run"]["workflows"] == [recipe["name"]]  # YAML reads `on` as true
    assert retry["permissions"] == {"actions": "write"}
    prefix = mark["with"]["name"].partition("${{")[0]
    assert f'startswith("{prefix}")' in retry["jobs"]["retry"]["steps"][0]["run"]


def test_forgejo() -> None:
    """Forgejo: signals reach pytest, files come whatever happens, and a device error has a mark of its own."""
    run, summary, upload = load("forgejo.yml")["jobs"]["boards"]["steps"][-3:]
    assert run["run"].startswith("exec pytest")
    assert run["env"].keys() >= CONNECTION | {"JMP_TOKEN"}
    assert "= 8 ]" in summary["run"]
    assert (summary["if"], upload["if"]) == ("always()", "always()")


def test_gitlab(tmp_path: Path) -> None:
    """GitLab: interruptible, retried for device errors only, files come whatever happens, the link has the mark."""
    job = load("gitlab.yml")["boards"]
    assert job["variables"].keys() >= CONNECTION
    assert (job["interruptible"], job["retry"]["exit_codes"]) == (True, [8])
    assert (job["artifacts"]["when"], job["artifacts"]["reports"]["junit"]) == ("always", "out/junit.xml")
    (tmp_path / "out").mkdir()
    for code, mark in ((0, ""), (8, " (device errors only: the lab failed)")):
        (tmp_path / "out" / "run.json").write_text(f'{{"run": {{"exit_code": {code}, "x": 1}}}}')
        env = {"BOARD": "rpi4", "CI_JOB_URL": "https://x/1", "PATH": "/usr/bin:/bin"}
        subprocess.run(["sh", "-ec", job["after_script"][1]], cwd=tmp_path, env=env, check=True)
        [link] = yaml.safe_load((tmp_path / job["artifacts"]["reports"]["annotations"]).read_text())["Boards"]
        assert link["external_link"]["label"] == f"Report of rpi4{mark}"


def test_buildkite() -> None:
    """Buildkite: the exit code is pytest's though a summary follows, and only device errors are retried."""
    [step] = load("buildkite.yml")["steps"]
    assert step["env"].keys() >= CONNECTION
    assert step["command"].rstrip().endswith("exit $$status")
    assert "buildkite-agent annotate" in step["command"]
    assert step["retry"]["automatic"][0]["exit_status"] == 8


def test_jenkins() -> None:
    """Jenkins: a declarative pipeline whose braces close, which tries device errors once more and collects always."""
    text = (RECIPES / "Jenkinsfile").read_text()
    bare = re.sub(r"'''.*?'''|'[^']*'|\"[^\"]*\"|//[^\n]*", "", text, flags=re.DOTALL)
    depth = 0
    for character in re.findall(r"[{}]", bare):
        depth += 1 if character == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert re.search(r"post \{\s+always \{\s+junit .*\s+archiveArtifacts ", text)
    assert "abortPrevious: true" in text
    assert "if (code == 8) {\n" in text
    assert all(name in text for name in CONNECTION)


@pytest.mark.parametrize(("code", "verdict"), [(0, "passed"), (8, "device-errors"), (1, "failed")])
def test_tekton(tmp_path: Path, code: int, verdict: str) -> None:
    """Tekton: pytest is the first process of its step; the next step keeps its exit code, and gives the verdict."""
    first, second = task()["spec"]["steps"]
    assert (first["command"], first["onError"]) == (["pytest"], "continue")
    assert {each["name"] for each in first["env"]} >= CONNECTION | {"JMP_TOKEN", "JMP_ENDPOINT"}
    (tmp_path / "code").write_text(str(code))
    script = second["script"].replace("$(steps.step-pytest.exitCode.path)", "code")
    script = script.replace("$(results.verdict.path)", "verdict")
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, check=False)
    assert (done.returncode, (tmp_path / "verdict").read_text()) == (code, verdict)


def test_container() -> None:
    """The image starts pytest without a shell, so that it gets the signals, and not as root."""
    lines = (RECIPES / "Containerfile").read_text().splitlines()
    assert lines[-1] == 'ENTRYPOINT ["pytest"]'
    assert "USER tester" in lines


def test_own_workflows() -> None:
    """Ours run what a contributor runs, on README's versions of Python, and publish without a token."""
    ci = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    publish = yaml.safe_load((ROOT / ".github/workflows/publish.yml").read_text())
    assert {"run": ".ci/run --coverage"} in ci["jobs"]["all"]["steps"]
    classifiers = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert ci["jobs"]["tests"]["strategy"]["matrix"]["python"] == classifiers
    assert publish["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    for workflow in (ci, publish):
        assert workflow["permissions"] == {"contents": "read"}
        assert all("timeout-minutes" in job for job in workflow["jobs"].values())

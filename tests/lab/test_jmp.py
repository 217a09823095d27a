"""The real `jmp` against the lab."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_jumpstarter.lab import Lab

JMP = os.environ.get("PYTEST_JMP") or shutil.which("jmp")

pytestmark = pytest.mark.skipif(
    not JMP, reason="there is no `jmp`: install jumpstarter-cli, or name it by the variable PYTEST_JMP"
)


def jmp(lab: Lab, *arguments: str) -> str:
    """Run `jmp` with the lab's folder as its only configuration; return what it prints."""
    assert JMP is not None  # else skipped
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("JMP_", "JUMPSTARTER_"))}
    path = f"{Path(JMP).parent}{os.pathsep}{environment.get('PATH', '')}"  # `jmp shell` looks for `j` there
    environment |= {"JMP_CLIENT_CONFIG_HOME": str(lab.config_dir), "PATH": path, "COLUMNS": "200"}
    done = subprocess.run([JMP, *arguments], capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_get_exporters(lab: Lab) -> None:
    """`jmp get exporters` needs no more than the folder that the lab wrote."""
    listed = jmp(lab, "get", "exporters")
    assert "board-1" in listed
    assert "kind=solo" in listed


def test_shell(lab: Lab) -> None:
    """`jmp shell` leases the board, drives it and gives it back."""
    jmp(lab, "shell", "-l", "board=spare", "--duration", "1m", "--", "j", "board", "power", "on")
    assert "board-2" not in jmp(lab, "get", "leases")

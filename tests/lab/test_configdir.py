"""The folder of configs that a lab writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pytest_jumpstarter.errors import LabError
from pytest_jumpstarter.lab.configdir import ConfigDir


def write_all(configs: ConfigDir) -> None:
    """Write one config of each kind."""
    configs.write_user(current_client="default")
    configs.write_client("default", namespace="lab", endpoint="127.0.0.1:1", ca="Y2E=", token="t")
    configs.write_exporter({"metadata": {"name": "a"}}, endpoint="127.0.0.1:1", ca="Y2E=", token="t")


def test_modes(tmp_path: Path) -> None:
    """Only their owner reads the configs, for they hold tokens."""
    configs = ConfigDir(tmp_path / "deep" / "configs")
    write_all(configs)
    modes = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "deep").rglob("*")}
    assert {path.name: mode for path, mode in modes.items()} == {
        "configs": 0o700,
        "clients": 0o700,
        "exporters": 0o700,
        "config.yaml": 0o600,
        "default.yaml": 0o600,
        "a.yaml": 0o600,
    }


def test_nothing_stays(tmp_path: Path) -> None:
    """What was made is taken away, and what was there before stays."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    configs = ConfigDir(folder)
    write_all(configs)
    configs.remove()
    assert [path.name for path in folder.rglob("*")] == ["mine.txt"]


def test_not_over_a_persons_config(tmp_path: Path) -> None:
    """A person's own config is never written over, nor removed."""
    (tmp_path / "config.yaml").write_text("config: {current-client: work}\n")
    configs = ConfigDir(tmp_path)
    with pytest.raises(LabError, match=r"config\.yaml exists and was not written by a lab; name another --config-dir"):
        write_all(configs)
    configs.remove()
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {"config": {"current-client": "work"}}


def test_over_what_a_dead_lab_left(tmp_path: Path) -> None:
    """Configs that a killed lab left behind are replaced."""
    dead = ConfigDir(tmp_path)
    write_all(dead)
    dead.remove()
    left = ConfigDir(tmp_path)
    write_all(left)
    contents = {path: path.read_text() for path in tmp_path.rglob("*.yaml")}
    left.remove()
    for path, text in contents.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    configs = ConfigDir(tmp_path)
    configs.write_client("default", namespace="lab", endpoint="127.0.0.1:2", ca="Y2E=", token="new")
    assert yaml.safe_load((tmp_path / "clients" / "default.yaml").read_text())["token"] == "new"
    configs.remove()


def test_one_lab_at_a_time(tmp_path: Path) -> None:
    """A second lab does not write into a folder in use."""
    first = ConfigDir(tmp_path)
    with pytest.raises(LabError, match="is in use by another lab; name another --config-dir"):
        ConfigDir(tmp_path)
    first.remove()
    ConfigDir(tmp_path).remove()


def test_not_a_folder(tmp_path: Path) -> None:
    """A file in the place of the folder is an error that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match=r"config folder: .*file.* cannot be used"):
        ConfigDir(tmp_path / "file" / "configs")


@pytest.mark.parametrize("link", ["clients/default.yaml", "config.yaml", "clients", "exporters/a.yaml"])
@pytest.mark.parametrize("is_dangling", [True, False])
def test_symbolic_link(tmp_path: Path, link: str, is_dangling: bool) -> None:
    """A link that somebody else prepared is not followed with a token in hand."""
    folder, target = tmp_path / "configs", tmp_path / "target"
    (folder / link).parent.mkdir(parents=True)
    (folder / link).symlink_to(target)
    if not is_dangling:
        target.mkdir() if link == "clients" else target.touch()
    configs = ConfigDir(folder)
    with pytest.raises(LabError, match=f"{link} (is a symbolic link|cannot be written)"):
        write_all(configs)
    configs.remove()
    assert is_dangling is not target.exists()
    assert is_dangling or target.is_dir() or target.read_text() == ""


@pytest.mark.parametrize("config", ["{}", "{current-client: null}", "{current-client: default}"])
def test_folder_that_jmp_has_used(tmp_path: Path, config: str) -> None:
    """`jmp` writes a config.yaml where there is none; while that names no client, or the lab's, it is replaced."""
    user = tmp_path / "config.yaml"
    user.write_text(f"apiVersion: jumpstarter.dev/v1alpha1\nkind: UserConfig\nconfig: {config}\n")
    configs = ConfigDir(tmp_path)
    write_all(configs)
    assert yaml.safe_load(user.read_text())["config"] == {"current-client": "default"}
    configs.remove()
    assert not user.exists()


@pytest.mark.parametrize("text", ["config: {current-client: mine}", "config: [", "kind: x", "config: 1"])
def test_user_config_that_is_in_use(tmp_path: Path, text: str) -> None:
    """A config.yaml that names a client of the user's, or that nobody understands, is not touched."""
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "mine.yaml").touch()
    (tmp_path / "config.yaml").write_text(text)
    configs = ConfigDir(tmp_path)
    with pytest.raises(LabError, match="exists and was not written by a lab"):
        configs.write_user(current_client="default")
    configs.remove()
    assert (tmp_path / "config.yaml").read_text() == text

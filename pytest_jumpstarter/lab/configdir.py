"""The folder of configs that a lab writes: `config.yaml`, `clients/NAME.yaml`, `exporters/NAME.yaml`."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pytest_jumpstarter.errors import LabError
from pytest_jumpstarter.lab.documents import API_VERSION

_MARK = "# Written by the embedded lab of pytest-jumpstarter; removed when the lab stops.\n"
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class ConfigDir:
    """
    Writes the configs and removes them at the end; `path` can be used as `JMP_CLIENT_CONFIG_HOME`.

    It never overwrites a file that no lab wrote: a folder with the user's own Jumpstarter configs is refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._files: list[Path] = []
        self._folders: list[Path] = []
        self._lock = self._claim()

    def write_user(self, *, current_client: str) -> None:
        """Write `config.yaml`, which names the client that `jmp` uses."""
        self._write(
            self.path / "config.yaml",
            {"apiVersion": API_VERSION, "kind": "UserConfig", "config": {"current-client": current_client}},
        )

    def write_client(self, name: str, *, namespace: str, endpoint: str, ca: str, token: str) -> Path:
        """Write `clients/NAME.yaml`, only with keys that every release of Jumpstarter knows."""
        config = {
            "apiVersion": API_VERSION,
            "kind": "ClientConfig",
            "metadata": {"namespace": namespace, "name": name},
            "endpoint": endpoint,
            "tls": {"ca": ca, "insecure": False},
            "token": token,
            "drivers": {"allow": [], "unsafe": True},
        }
        return self._write(self.path / "clients" / f"{name}.yaml", config)

    def write_exporter(self, config: Mapping[str, Any], *, endpoint: str, ca: str, token: str) -> Path:
        """Write `exporters/NAME.yaml`: a document of the lab file, and the connection that `jmp run` needs."""
        connection = {"endpoint": endpoint, "tls": {"ca": ca, "insecure": False}, "token": token}
        return self._write(self.path / "exporters" / f"{config['metadata']['name']}.yaml", {**config, **connection})

    def remove(self) -> None:
        """Remove every file and folder that was created."""
        os.close(self._lock)
        for file in self._files:
            file.unlink(missing_ok=True)
        for folder in reversed(self._folders):
            try:
                folder.rmdir()
            except OSError:
                continue  # it contains a file of somebody else

    def _claim(self) -> int:
        """Lock the folder, so that two labs do not overwrite each other's configs."""
        try:
            self._make(self.path)
            descriptor = os.open(self.path, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise LabError(f"config folder: {self.path} is in use by another lab; name another --config-dir") from error
        except OSError as error:
            raise LabError(f"config folder: {self.path} cannot be used: {error.strerror or error}") from error
        return descriptor

    def _write(self, file: Path, content: Mapping[str, Any]) -> Path:
        try:
            self._refuse_links(file)
            self._make(file.parent)
            self._refuse_foreign(file)
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "w", encoding="utf-8") as stream:
                os.fchmod(descriptor, 0o600)
                stream.write(_MARK)
                yaml.dump(dict(content), stream, Dumper=_DUMPER, sort_keys=False)
        except OSError as error:
            raise LabError(f"config folder: {file} cannot be written: {error.strerror or error}") from error
        self._files.append(file)
        return file

    def _names_no_client(self, text: str) -> bool:
        """Return whether a `config.yaml` is as `jmp` writes it where there is none: without a client, or with ours."""
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError:
            return False
        config = content.get("config") if isinstance(content, dict) else None
        alias = config.get("current-client") if isinstance(config, dict) else None
        is_ours = alias == "default" and not (self.path / "clients" / "default.yaml").exists()
        return isinstance(config, dict) and (alias is None or is_ours)

    def _make(self, folder: Path) -> None:
        missing = [part for part in (folder, *folder.parents) if not part.exists()]
        for part in reversed(missing):
            part.mkdir(mode=0o700)
            self._folders.append(part)

    def _refuse_links(self, file: Path) -> None:
        """Refuse to write a token where somebody else wants it."""
        for path in (file.parent, file):
            if path != self.path and path.is_symlink():
                raise LabError(f"config folder: {path} is a symbolic link; remove it, or name another --config-dir")

    def _refuse_foreign(self, file: Path) -> None:
        if not file.exists():
            return
        text = file.read_text(encoding="utf-8", errors="replace")
        if not text.startswith(_MARK) and not (file.name == "config.yaml" and self._names_no_client(text)):
            raise LabError(f"config folder: {file} exists and was not written by a lab; name another --config-dir")

"""The state of a lab that is killed and started again: its port, keys, identities and leases."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pytest_jumpstarter.lab.authority import Keys
from pytest_jumpstarter.lab.model import Client, Exporter, Lease, Model

_EXPORTER_FIELDS = ("uid", "labels", "devices", "status", "status_message")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """
    The state of a lab at one moment, as a production controller always has it in its database.

    Attributes:
        port: The port on which it listened.
        exporters: The state of each exporter by name.
    """

    port: int
    keys: Keys
    clients: Mapping[str, Client]
    exporters: Mapping[str, Mapping[str, Any]]
    leases: Sequence[Lease]

    @classmethod
    def take(cls, model: Model, keys: Keys, port: int) -> Self:
        """Return the state at this moment."""
        exporters = {
            name: {field: getattr(exporter, field) for field in _EXPORTER_FIELDS}
            for name, exporter in model.exporters.items()
        }
        return cls(port=port, keys=keys, clients=model.clients, exporters=exporters, leases=list(model.leases.values()))

    @classmethod
    def load(cls, file: Path) -> Self | None:
        """Return the state in `file`, which only this lab writes; None if there is none."""
        if not file.exists():
            return None
        loaded: Self = pickle.loads(file.read_bytes())
        return loaded

    def save(self, file: Path) -> None:
        """Replace `file` in one step: the process may be killed at any moment."""
        new = file.with_suffix(".new")
        new.write_bytes(pickle.dumps(self))
        os.replace(new, file)

    def restore(self, model: Model) -> list[Exporter]:
        """Restore the state in `model`; return the exporters that were online, which may reconnect or not."""
        model.clients.update(self.clients)
        for lease in self.leases:
            model.leases[lease.name] = lease
            if not lease.is_ended:
                model.open_leases[lease.name] = lease
        for name, fields in self.exporters.items():
            for field, value in fields.items():
                setattr(model.exporters[name], field, value)
        for lease in model.open_leases.values():
            if lease.exporter:
                exporter = model.exporters[lease.exporter]
                exporter.lease, exporter.has_seen_idle = lease, False
        return [exporter for exporter in model.exporters.values() if exporter.devices is not None]

"""Whether a board that somebody else chose is the one that was asked for."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_jumpstarter.errors import DeviceMismatch
from pytest_jumpstarter.leasing.lease_request import Wanted
from pytest_jumpstarter.selector import Selector


def check_identity(wanted: Wanted, name: str, labels: Mapping[str, str] | None, where: str) -> None:
    """
    Refuse a board that somebody else chose if it is not what `wanted` asks for.

    What is not known, an empty name or None for the labels, contradicts nothing; see `is_unknown`.

    Raises:
        DeviceMismatch: Its name or labels contradict `wanted`.
    """
    if wanted.exporter is not None and name and wanted.exporter != name:
        raise DeviceMismatch(f"{asked_for(wanted)}, but {where} has exporter {name}")
    if wanted.selector is None or labels is None:
        return
    unmet = Selector.parse(wanted.selector).unmet(labels)
    if unmet:
        has = ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "no labels"
        raise DeviceMismatch(
            f"{asked_for(wanted)}, but {where} has exporter {name or '(unnamed)'} with {has}: "
            f"{', '.join(map(str, unmet))} does not hold"
        )


def is_unknown(wanted: Wanted, name: str, labels: Mapping[str, str] | None) -> bool:
    """Tell whether `wanted` asks for something of which nobody says if the board has it."""
    return (wanted.exporter is not None and not name) or (wanted.selector is not None and labels is None)


def asked_for(wanted: Wanted) -> str:
    """Return words for the board that is wanted, and for who said so."""
    board = ", ".join(filter(None, [wanted.exporter and f"exporter {wanted.exporter}", wanted.selector]))
    return f"{wanted.role!r} asks for {board} ({wanted.source})"

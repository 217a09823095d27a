"""Whether a board that somebody else chose is the one that was asked for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from pytest_jumpstarter.errors import DeviceMismatch
from pytest_jumpstarter.leasing.request import Wanted
from pytest_jumpstarter.selector import Selector


def check_identity(wanted: Wanted, name: str, labels: Mapping[str, str] | None, where: str) -> None:
    """
    Refuse a board that somebody else chose if it is not what `wanted` asks for.

    Raises:
        DeviceMismatch: Its name or labels contradict `wanted`.

    Warns:
        UserWarning: Its labels cannot be known.
    """
    asked = f"{wanted.role!r} asks for {wanted}" + (f" ({wanted.source})" if wanted.source else "")
    if wanted.exporter is not None and name and wanted.exporter != name:
        raise DeviceMismatch(f"{asked}, but {where} has exporter {name}")
    if wanted.selector is None:
        return
    if labels is None:
        warnings.warn(f"{asked}, but {where} does not tell its exporter's labels; not checked", stacklevel=2)
        return
    unmet = Selector.parse(wanted.selector).unmet(labels)
    if unmet:
        has = ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "no labels"
        raise DeviceMismatch(
            f"{asked}, but {where} has exporter {name or '(unnamed)'} with {has}: "
            f"{', '.join(map(str, unmet))} does not hold"
        )

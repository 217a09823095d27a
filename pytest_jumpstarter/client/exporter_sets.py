"""
`set_of`: the exporters of an ExporterSet, each of which is replaced by another one with a new name after its lease.

No service says which exporters these are. They have the labels of their set, and its name with five characters that
Kubernetes generates; these have no vowels, and no digit that looks like a letter.

Source: ExporterSetReconciler of Jumpstarter's controller (`recycleStrategy: ExitAndReplace`)
"""

from __future__ import annotations

_GENERATED = frozenset("bcdfghjklmnpqrstvwxz2456789")
_LENGTH = 5


def set_of(exporter: str) -> str:
    """Return the name of the set that an exporter may belong to; empty if its name has no generated end."""
    stem, _, end = exporter.rpartition("-")
    return stem if len(end) == _LENGTH and not end.isdecimal() and _GENERATED.issuperset(end) else ""

"""Lab files: what is read from them, and what is said of broken ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_jumpstarter.errors import LabError
from pytest_jumpstarter.lab.documents import read_documents

GOOD = """\
metadata: {name: a, labels: {board: rpi4, slot: "1"}}
export:
  power: {type: pkg.mod.Power}
  group: {children: {one: {type: pkg.mod.One, children: {two: {type: pkg.mod.Two}}}, alias: {ref: power}}}
hooks: {beforeLease: {script: "true"}}
---
# an external one
metadata: {name: b}
enabled: false
"""


def test_good(lab_file: Callable[[str], Path]) -> None:
    """A document gives name, labels, driver classes and what an exporter's own config may hold."""
    first, second = read_documents([lab_file(GOOD)])
    assert (first.name, first.namespace, dict(first.labels)) == ("a", "lab", {"board": "rpi4", "slot": "1"})
    assert first.drivers == {
        "power": "pkg.mod.Power",
        "group.one": "pkg.mod.One",
        "group.one.two": "pkg.mod.Two",
    }
    assert first.config["metadata"] == {"namespace": "lab", "name": "a"}
    assert first.config["hooks"] == {"beforeLease": {"script": "true"}}
    assert (first.is_external, second.is_external) == (False, True)
    assert (first.is_enabled, second.is_enabled) == (True, False)
    assert "enabled" not in second.config
    assert second.source.endswith("lab.yaml:8")


def test_folder(tmp_path: Path) -> None:
    """A folder gives the documents of its YAML files in order of their names."""
    for name in ("b.yaml", "a.yml"):
        (tmp_path / name).write_text(f"metadata: {{name: {name[0]}}}")
    (tmp_path / "notes.txt").write_text("not for the lab")
    assert [document.name for document in read_documents([tmp_path])] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no exporter in {file}"),
        ("a: [1", "{file}:2: this is not YAML: "),
        ("a: 1\n\tb: 2", "{file}:2: this is not YAML: "),
        ("a: \x07", "{file}: this is not YAML: "),
        ("- 1", "{file}:1: the document is [1]; it must be a mapping"),
        ("kind: ClientConfig", "{file}:1: kind is 'ClientConfig'; a lab file has documents of kind ExporterConfig"),
        ("apiVersion: v2", "{file}:1: apiVersion is 'v2'; only jumpstarter.dev/v1alpha1 is known"),
        ("exports: {}", "{file}:1: unknown key 'exports'; did you mean 'export'?"),
        ("metadata: {name: a, label: {b: c}}", "{file}:1: metadata has an unknown key 'label'; did you mean 'labels'?"),
        (
            "metadata: {name: a}\nexport:\n  p: {type: a.B, config: {methods: [{on: x}]}}",
            '{file}:3: YAML reads the key on as true or false; write it in quotes: "on"',
        ),
        ("Yes: 1", '{file}:1: YAML reads the key Yes as true or false; write it in quotes: "Yes"'),
        ("colour: red", "{file}:1: unknown key 'colour'; known are "),
        ("export: {}", "{file}:1: metadata is missing; it must be a mapping"),
        ("metadata: {name: ../x}", "{file}:1: metadata.name is '../x'; an exporter's name is "),
        ("metadata: {labels: {}}", "{file}:1: metadata.name is None; an exporter's name is "),
        ("metadata: {name: a, namespace: B}", "{file}:1: metadata.namespace is 'B'; "),
        ("metadata: {name: a, labels: {x: true}}", "{file}:1: metadata.labels.x is True, not text; write it in quotes"),
        ("metadata: {name: a, labels: {-x: ''}}", "{file}:1: metadata.labels: '-x' is not a label key"),
        ("metadata: {name: a, labels: {x: 'a b'}}", "{file}:1: metadata.labels.x is 'a b'; a label's value is "),
        ("metadata: {name: a}\nenabled: maybe", "{file}:2: enabled is 'maybe'; write true or false"),
        ("metadata: {name: a}\nexport: {}", "{file}:2: export is empty; "),
        ("metadata: {name: a}\nexport: {p: x}", "{file}:2: export.p is 'x'; it must be a mapping"),
        ("metadata: {name: a}\nexport: {p: {config: {}}}", "{file}:2: export.p needs a type "),
        ("metadata: {name: a}\nexport: {p: {type: Power}}", "{file}:2: export.p.type is 'Power'; write package."),
        ("metadata: {name: a}\nexport:\n  p:", "{file}:3: export.p is empty; write export.p: {{type: package."),
        ("metadata: {name: a}\nexport:\n  p:\n  type: m.C", "{file}:3: export.p is empty; 'type' beside it belongs"),
        ("metadata: {name: a}\nexport:\n  type: m.C", "{file}:3: export.type is 'm.C', but 'type' belongs to a driver"),
        (
            "metadata: {name: a}\nexport:\n  p:\n    type: m.C\n    cofig: {}",
            "{file}:5: export.p has an unknown key 'cofig'; did you mean 'config'?",
        ),
        (
            "metadata: {name: a}\nexport: {p: {type: m.C, config: [x]}}",
            "{file}:2: export.p.config is ['x']; it must be",
        ),
        ("metadata: {name: a}\nexport: {p: {ref: 5}}", "{file}:2: export.p.ref is 5; write the path of a driver"),
        (
            "metadata: {name: a}\nexport:\n  g:\n    children:\n      p:",
            "{file}:5: export.g.children.p is empty; write export.g.children.p: ",
        ),
        ("metadata: {name: a}\n---\nmetadata: {name: a}", "{file}:3: exporter 'a' is already in {file}:1"),
        (
            "metadata: {name: a}\n---\nmetadata: {name: b, namespace: moon}",
            "{file}:3: namespace 'moon' differs from that of the documents before; one lab has one namespace",
        ),
    ],
)
def test_broken(lab_file: Callable[[str], Path], text: str, message: str) -> None:
    """A broken document is one error that names file, line, value and remedy."""
    file = lab_file(text)
    with pytest.raises(LabError) as caught:
        read_documents([file])
    assert str(caught.value).startswith(message.format(file=file))
    assert "\n" not in str(caught.value)


def test_missing(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(LabError, match=r"lab file .*nope\.yaml does not exist"):
        read_documents([tmp_path / "nope.yaml"])


def test_empty_folder(tmp_path: Path) -> None:
    """A folder without lab files is named."""
    with pytest.raises(LabError, match=r"lab folder .* has no \.yaml file"):
        read_documents([tmp_path])


def test_not_text(tmp_path: Path) -> None:
    """A file that is no text says so."""
    file = tmp_path / "lab.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabError, match=r"cannot be read: it is not UTF-8"):
        read_documents([file])


def test_keys_of_real_configs(tmp_path: Path) -> None:
    """What a config of a production lab has, and this lab fills in itself or cannot use, is left out."""
    file = tmp_path / "lab.yaml"
    file.write_text("metadata: {name: a}\nendpoint: e\ntoken: t\ntls: {ca: x}\nmotd: Welcome\ndescription: d\n")
    (document,) = read_documents([file])
    assert document.left_out == ("endpoint", "token", "tls", "motd")
    assert set(document.config) == {"apiVersion", "kind", "metadata", "description"}

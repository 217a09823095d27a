"""
Lab files: streams of Jumpstarter's `ExporterConfig` documents, with labels.

A document is a config for `jmp run` without `endpoint`, `tls` and `token`, which the lab adds. It may have two keys
that a production lab keeps in the `Exporter` object on Kubernetes: `metadata.labels`, which lease selectors match, and
`enabled: false`, with which an exporter cannot be leased. A document without `export` is an *external* exporter: the
lab writes its config, and somebody else runs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pytest_jumpstarter.errors import LabError
from pytest_jumpstarter.selector import is_label_key, is_label_value

API_VERSION = "jumpstarter.dev/v1alpha1"
DEFAULT_NAMESPACE = "lab"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_FILLED_IN = ("endpoint", "tls", "token")
_KNOWN = {
    "apiVersion", "kind", "metadata", "enabled", "description", "grpcOptions", "export", "hooks",
    "failureDetection", "exitOnLeaseEnd",
}  # fmt: skip
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # without libyaml, ten thousand exporters take seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """
    One exporter in a lab file.

    Attributes:
        source: `FILE:LINE` of the document.
        config: The `ExporterConfig`, without the keys that only the lab knows.
        driver_types: Import paths of all driver classes in `export`.
    """

    name: str
    namespace: str
    source: str
    labels: Mapping[str, str]
    is_enabled: bool
    config: Mapping[str, Any]
    driver_types: tuple[str, ...]

    @property
    def is_external(self) -> bool:
        """Whether somebody else runs this exporter."""
        return "export" not in self.config


def is_object_name(text: str) -> bool:
    """Return whether `text` is a valid name of a Kubernetes object: a lower-case RFC 1123 subdomain."""
    return len(text) <= 253 and _NAME.fullmatch(text) is not None


def read_documents(paths: Sequence[str | Path]) -> list[Document]:
    """
    Return the exporters in all files and folders, in order.

    Raises:
        LabError: A file is missing or broken, two exporters have the same name, or there is no exporter.
    """
    documents: dict[str, Document] = {}
    for path in paths:
        for document in _read(Path(path)):
            first = documents.setdefault(document.name, document)
            if first is not document:
                raise LabError(f"{document.source}: exporter {document.name!r} is already in {first.source}")
            if document.namespace != next(iter(documents.values())).namespace:
                raise LabError(
                    f"{document.source}: namespace {document.namespace!r} differs from that of the documents before;"
                    " one lab has one namespace"
                )
    if not documents:
        raise LabError(f"there is no exporter in {', '.join(map(str, paths)) or 'no file'}")
    return list(documents.values())


def _read(path: Path) -> Iterator[Document]:
    for file in _files(path):
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LabError(f"lab file {file} cannot be read: {_reason(error)}") from error
        for line, data in _load(file, text):
            yield _Reader(f"{file}:{line}", data).document()


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise LabError(f"lab file {path} does not exist")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml") and file.is_file())
    if not files:
        raise LabError(f"lab folder {path} has no .yaml file")
    return files


def _load(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Yield the first line and the content of each document."""
    try:
        loader = _LOADER(text)
        while loader.check_node():
            node = loader.get_node()
            yield node.start_mark.line + 1, loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise LabError(f"{where}: this is not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise LabError(f"{file}: this is not YAML: {' '.join(str(error).split())}") from error


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8"


class _Reader:
    """Reads one document; the error for a broken one names the key."""

    def __init__(self, source: str, data: Any) -> None:
        self.source = source
        self.data: Mapping[str, Any] = self._mapping(data, "the document")

    def document(self) -> Document:
        self._check_keys()
        metadata = self._mapping(self.data.get("metadata"), "metadata")
        config = {key: value for key, value in self.data.items() if key != "enabled"}
        config["metadata"] = {"namespace": self._namespace(metadata), "name": self._name(metadata)}
        return Document(
            name=self._name(metadata),
            namespace=self._namespace(metadata),
            source=self.source,
            labels=self._labels(metadata.get("labels")),
            is_enabled=self._is_enabled(),
            config={"apiVersion": API_VERSION, "kind": "ExporterConfig", **config},
            driver_types=tuple(self._driver_types()),
        )

    def _check_keys(self) -> None:
        kind = self.data.get("kind", "ExporterConfig")
        if kind != "ExporterConfig":
            raise self._error(f"kind is {kind!r}; a lab file has documents of kind ExporterConfig")
        version = self.data.get("apiVersion", API_VERSION)
        if version != API_VERSION:
            raise self._error(f"apiVersion is {version!r}; only {API_VERSION} is known")
        for key in self.data:
            if key in _FILLED_IN:
                raise self._error(f"{key} must not be given: the lab fills it in")
            if key not in _KNOWN:
                raise self._error(f"unknown key {key!r}; known are {', '.join(sorted(_KNOWN))}")

    def _name(self, metadata: Mapping[str, Any]) -> str:
        name = metadata.get("name")
        if not isinstance(name, str) or not is_object_name(name):
            raise self._error(
                f"metadata.name is {name!r}; an exporter's name is lower-case letters, digits, '-' and '.',"
                " at most 253, first and last a letter or digit"
            )
        return name

    def _namespace(self, metadata: Mapping[str, Any]) -> str:
        namespace = metadata.get("namespace", DEFAULT_NAMESPACE)
        if not isinstance(namespace, str) or not is_object_name(namespace):
            raise self._error(f"metadata.namespace is {namespace!r}; use lower-case letters, digits and '-'")
        return namespace

    def _labels(self, labels: Any) -> dict[str, str]:
        for key, value in self._mapping({} if labels is None else labels, "metadata.labels").items():
            if not isinstance(key, str) or not is_label_key(key):
                raise self._error(f"metadata.labels: {key!r} is not a label key")
            if not isinstance(value, str):
                raise self._error(f"metadata.labels.{key} is {value!r}, not text; write it in quotes")
            if not is_label_value(value):
                raise self._error(
                    f"metadata.labels.{key} is {value!r}; a label's value is at most 63 letters, digits, '-', '_', '.'"
                )
        return dict(labels or {})

    def _is_enabled(self) -> bool:
        enabled = self.data.get("enabled", True)
        if not isinstance(enabled, bool):
            raise self._error(f"enabled is {enabled!r}; write true or false")
        return enabled

    def _driver_types(self) -> Iterator[str]:
        if "export" not in self.data:
            return
        export = self._mapping(self.data["export"], "export")
        if not export:
            raise self._error("export is empty; add a driver, or remove export if somebody else runs this exporter")
        yield from self._children(export, "export")

    def _children(self, children: Any, path: str) -> Iterator[str]:
        for name, driver in self._mapping(children, path).items():
            where = f"{path}.{name}"
            driver = self._mapping(driver, where)  # noqa: PLW2901  (now it is known to be a mapping)
            if not {"type", "ref", "children"} & driver.keys():
                raise self._error(f"{where} needs a type (a driver class), a ref, or children")
            if "type" in driver:
                if not isinstance(driver["type"], str) or "." not in driver["type"]:
                    raise self._error(f"{where}.type is {driver['type']!r}; write package.module.Class")
                yield driver["type"]
            yield from self._children(driver.get("children") or {}, f"{where}.children")

    def _mapping(self, value: Any, what: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            shown = "missing" if value is None else f"{value!r:.80}"
            raise self._error(f"{what} is {shown}; it must be a mapping")
        return value

    def _error(self, text: str) -> LabError:
        return LabError(f"{self.source}: {text}")

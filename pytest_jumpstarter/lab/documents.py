"""
Lab files: streams of Jumpstarter's `ExporterConfig` documents, with labels.

A document is a config for `jmp run`. Its `endpoint`, `tls` and `token` are ignored, because the lab has its own, and so
is `motd`, which only releases of Jumpstarter after 0.9 know. It may have two keys
that a production lab keeps in the `Exporter` object on Kubernetes: `metadata.labels`, which lease selectors match, and
`enabled: false`, with which an exporter cannot be leased. A document without `export` is an *external* exporter: the
lab writes its config, and somebody else runs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from pytest_jumpstarter.errors import LabError
from pytest_jumpstarter.lab.power_drivers import is_mock
from pytest_jumpstarter.selector import is_label_key, is_label_value

API_VERSION = "jumpstarter.dev/v1alpha1"
DEFAULT_NAMESPACE = "lab"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DEEPEST = 100
_MOST_VALUES = 100_000
_LEFT_OUT = ("endpoint", "tls", "token", "motd")
_KNOWN = {
    "apiVersion", "kind", "metadata", "enabled", "description", "grpcOptions", "export", "hooks",
    "failureDetection", "exitOnLeaseEnd",
}  # fmt: skip
_OF_METADATA = ("name", "namespace", "labels")
_OF_DRIVER = ("type", "config", "children", "ref", "description", "methods_description")
_INDENT = "indent it further than the name of the driver"
_EXAMPLE = "{type: package.module.Class, config: {...}}"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # without libyaml, ten thousand exporters take seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """
    One exporter in a lab file.

    Attributes:
        source: `FILE:LINE` of the document.
        config: The `ExporterConfig`, without the keys that only the lab knows.
        drivers: Import paths of all driver classes in `export`, by the dotted paths of the drivers.
        left_out: Keys that are ignored.
    """

    name: str
    namespace: str
    source: str
    labels: Mapping[str, str]
    is_enabled: bool
    config: Mapping[str, Any]
    drivers: Mapping[str, str]
    left_out: tuple[str, ...] = ()

    @property
    def is_external(self) -> bool:
        """Whether somebody else runs this exporter."""
        return "export" not in self.config

    @property
    def notices(self) -> list[str]:
        """What people should know of it: keys that are ignored, and drivers that only pretend."""
        found = [f"ignored: {', '.join(self.left_out)}"] if self.left_out else []
        mocks = {path: type_ for path, type_ in self.drivers.items() if is_mock(type_)}
        if len(mocks) == 1:
            found += [f"{path} of {self.name} is a mock ({type_})" for path, type_ in mocks.items()]
        elif mocks:
            found.append(f"{', '.join(mocks)} of {self.name} are mocks")
        return [f"{self.source}: {text}" for text in found]


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
        for node, data in _load(file, text):
            yield _Reader(file, node, data).document()


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise LabError(f"lab file {path} does not exist")
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml") and file.is_file())
    if not files:
        raise LabError(f"lab folder {path} has no .yaml file")
    return files


def _load(file: Path, text: str) -> Iterator[tuple[Any, Any]]:
    """Yield the YAML node and the content of each document."""
    try:
        loader = _LOADER(text)
        while loader.check_node():
            node = loader.get_node()
            _size(node, f"{file}:{node.start_mark.line + 1}", {}, 0)
            _refuse_words_for_booleans(file, node)
            yield node, loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise LabError(f"{where}: this is not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise LabError(f"{file}: this is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise LabError(f"{file}: it is nested too deeply") from error


def _size(node: Any, source: str, known: dict[int, int], depth: int) -> int:
    """
    Return how many values a node has when all its aliases are written out.

    Raises:
        LabError: An alias is inside of what it repeats, or there are too many values, or they are nested too deeply.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if depth > _DEEPEST:
        raise LabError(f"{source}: values are nested more than {_DEEPEST} deep, or an alias is in its own anchor")
    if id(node) not in known:
        inner = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_size(part, source, known, depth + 1) for part in inner)
    if known[id(node)] > _MOST_VALUES:
        raise LabError(f"{source}: with all aliases written out, there are more than {_MOST_VALUES} values")
    return known[id(node)]


def _refuse_words_for_booleans(file: Path, node: Any) -> None:
    """
    Refuse keys that YAML reads as true or false, such as a method `on` without quotes.

    Raises:
        LabError: There is such a key.
    """
    todo = [node]
    while todo:
        node = todo.pop()
        for part in node.value if isinstance(node, yaml.CollectionNode) else ():
            key, value = part if isinstance(part, tuple) else (None, part)
            if key is not None and key.tag == "tag:yaml.org,2002:bool":
                raise LabError(
                    f"{file}:{key.start_mark.line + 1}: YAML reads the key {key.value} as true or false;"
                    f' write it in quotes: "{key.value}"'
                )
            todo.append(value)


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8"


class _Reader:
    """Reads one document; the error for a broken one names the key."""

    def __init__(self, file: Path, node: Any, data: Any) -> None:
        self._file = file
        self._node = node
        self.source = f"{file}:{node.start_mark.line + 1}"
        self.data: Mapping[str, Any] = self._mapping(data)

    def document(self) -> Document:
        self._check_keys()
        metadata = self._mapping(self.data.get("metadata"), "metadata")
        self._check_similar(metadata, _OF_METADATA, "metadata")
        left_out = tuple(key for key in self.data if key in _LEFT_OUT)
        config = {key: value for key, value in self.data.items() if key not in (*left_out, "enabled")}
        config["metadata"] = {"namespace": self._namespace(metadata), "name": self._name(metadata)}
        return Document(
            name=self._name(metadata),
            namespace=self._namespace(metadata),
            source=self.source,
            labels=self._labels(metadata.get("labels")),
            is_enabled=self._is_enabled(),
            config={"apiVersion": API_VERSION, "kind": "ExporterConfig", **config},
            drivers=dict(self._drivers()),
            left_out=left_out,
        )

    def _check_keys(self) -> None:
        kind = self.data.get("kind", "ExporterConfig")
        if kind != "ExporterConfig":
            raise self._error(f"kind is {kind!r}; a lab file has documents of kind ExporterConfig", "kind")
        version = self.data.get("apiVersion", API_VERSION)
        if version != API_VERSION:
            raise self._error(f"apiVersion is {version!r}; only {API_VERSION} is known", "apiVersion")
        for key in self.data:
            if key not in _KNOWN and key not in _LEFT_OUT:
                raise self._error(f"unknown key {key!r}; {_known(key)}", str(key))

    def _name(self, metadata: Mapping[str, Any]) -> str:
        name = metadata.get("name")
        if not isinstance(name, str) or not is_object_name(name):
            raise self._error(
                f"metadata.name is {name!r}; an exporter's name is lower-case letters, digits, '-' and '.',"
                " at most 253, first and last a letter or digit",
                "metadata",
                "name",
            )
        return name

    def _namespace(self, metadata: Mapping[str, Any]) -> str:
        namespace = metadata.get("namespace", DEFAULT_NAMESPACE)
        if not isinstance(namespace, str) or not is_object_name(namespace):
            raise self._error(
                f"metadata.namespace is {namespace!r}; use lower-case letters, digits and '-'", "metadata", "namespace"
            )
        return namespace

    def _labels(self, labels: Any) -> dict[str, str]:
        where = ("metadata", "labels")
        for key, value in self._mapping({} if labels is None else labels, *where).items():
            if not isinstance(key, str) or not is_label_key(key):
                raise self._error(f"metadata.labels: {key!r} is not a label key", *where, str(key))
            if not isinstance(value, str):
                raise self._error(f"metadata.labels.{key} is {value!r}, not text; write it in quotes", *where, key)
            if not is_label_value(value):
                raise self._error(
                    f"metadata.labels.{key} is {value!r}; a label's value is at most 63 letters, digits, '-', '_', '.'",
                    *where,
                    key,
                )
        return dict(labels or {})

    def _is_enabled(self) -> bool:
        enabled = self.data.get("enabled", True)
        if not isinstance(enabled, bool):
            raise self._error(f"enabled is {enabled!r}; write true or false", "enabled")
        return enabled

    def _drivers(self) -> Iterator[tuple[str, str]]:
        """Yield the path and the class of each driver in `export`."""
        if "export" not in self.data:
            return
        if not self.data["export"] and self.data["export"] is not False:
            raise self._error(
                "export is empty; add a driver, or remove export if somebody else runs this exporter", "export"
            )
        yield from self._children(self._mapping(self.data["export"], "export"), "export")

    def _children(self, children: Mapping[str, Any], *keys: str) -> Iterator[tuple[str, str]]:
        for name, driver in children.items():
            here = (*keys, str(name))
            self._check_driver(driver, children, here)
            if "type" in driver:
                yield ".".join(key for key in here[1::2]), driver["type"]
            if driver.get("children"):
                yield from self._children(self._mapping(driver["children"], *here, "children"), *here, "children")

    def _check_driver(self, driver: Any, siblings: Mapping[str, Any], keys: tuple[str, ...]) -> None:
        """Raise what is wrong with the keys of one driver; its options are left to its class."""
        where, name = ".".join(keys), keys[-1]
        if name in _OF_DRIVER and not isinstance(driver, Mapping):
            raise self._error(f"{where} is {driver!r:.80}, but {name!r} belongs to a driver: {_INDENT}", *keys)
        if driver is None:
            stray = next((key for key in siblings if key in _OF_DRIVER), None)
            remedy = f"{stray!r} beside it belongs to it: {_INDENT}" if stray else f"write {where}: {_EXAMPLE}"
            raise self._error(f"{where} is empty; {remedy}", *keys)
        self._mapping(driver, *keys)
        self._check_similar(driver, _OF_DRIVER, *keys)
        if not {"type", "ref", "children"} & driver.keys():
            raise self._error(f"{where} needs a type (a driver class), a ref, or children", *keys)
        if "type" in driver and (not isinstance(driver["type"], str) or "." not in driver["type"]):
            raise self._error(f"{where}.type is {driver['type']!r}; write package.module.Class", *keys, "type")
        if not isinstance(driver.get("ref", ""), str):
            raise self._error(f"{where}.ref is {driver['ref']!r:.80}; write the path of a driver", *keys, "ref")
        for key in ("config", "children", "methods_description"):
            if key in driver:
                self._mapping(driver[key], *keys, key)

    def _check_similar(self, mapping: Mapping[str, Any], known: Sequence[str], *keys: str) -> None:
        """Raise that a key is unknown if it is similar to a known one; other keys may be those of a newer release."""
        for key in mapping:
            near = [] if key in known else get_close_matches(str(key), known, n=1)
            if near:
                text = f"{'.'.join(keys)} has an unknown key {key!r}; did you mean {near[0]!r}?"
                raise self._error(text, *keys, str(key))

    def _mapping(self, value: Any, *keys: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            shown = "missing" if value is None else f"{value!r:.80}"
            raise self._error(f"{'.'.join(keys) or 'the document'} is {shown}; it must be a mapping", *keys)
        return value

    def _error(self, text: str, *keys: str) -> LabError:
        return LabError(f"{self._file}:{_line_of(self._node, keys)}: {text}")


def _known(key: Any) -> str:
    """Return which key is probably meant, or all that there are."""
    near = get_close_matches(str(key), _KNOWN, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(_KNOWN))}"


def _line_of(node: Any, keys: Sequence[str]) -> int:
    """Return the line of the key that these lead to, or of the last of them that is there."""
    line: int = node.start_mark.line + 1
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        found = next(((of, value) for of, value in pairs if of.value == key), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line

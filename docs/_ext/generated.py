"""
The parts of the reference that are made from the code when the documentation is built.

The directives, such as `jmp-options`, are listed at the end of this module. Each writes Markdown or reStructuredText,
which Sphinx then parses like a page. Fixtures and markers get object types of their own.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.resources import files
from tempfile import TemporaryDirectory
from textwrap import dedent
from typing import Any, ClassVar

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from pytest_jumpstarter.options import OPTIONS, Option
from pytest_jumpstarter.report.exit_codes import EXIT_CODES
from pytest_jumpstarter.running.waits import WAITS

# Members that the parts of the package call on each other.
INTERNAL = [
    "begin",
    "close",
    "device",
    "error",
    "finish",
    "is_open",
    "keys",
    "leaves_open",
    "poke",
    "renew",
    "renew_connection",
    "reserve",
    "show_findings",
    "source",
    "supports",
    "warm_up",
]
# Classes whose objects the plugin makes, and users do not.
NOT_CALLED = [
    "CommandFailed",
    "CommandTimeout",
    "Console",
    "Device",
    "Folder",
    "Method",
    "Methods",
    "Response",
    "Run",
    "Started",
]


class Generated(SphinxDirective):
    """Base class of the directives: `lines` is the Markdown that takes the place of the directive."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Parse the lines."""
        node = nodes.Element()
        self.state.nested_parse(StringList(list(self.lines()), source="generated"), self.content_offset, node)
        return node.children

    def lines(self) -> Iterable[str]:
        """Return the Markdown."""
        raise NotImplementedError


class Options(Generated):
    """One entry for each row of the option table."""

    def lines(self) -> Iterable[str]:
        """Return an `option` directive for each row."""
        for option in OPTIONS:
            yield f":::{{option}} {option.flag} {option.metavar}".rstrip()
            yield f"{escaped(option.help)}."
            yield ""
            yield " · ".join(spellings(option))
            yield ":::"
            yield ""


def spellings(option: Option) -> Iterable[str]:
    """Return the other places where an option can be set, its default, and what else holds for it."""
    yield f"ini: `{option.ini}`"
    if option.variable:
        yield f"environment: `{option.variable}`"
    if option.default:
        yield f"default: `{option.default}`"
    if option.takes_many:
        yield "may be given several times"
    if option.is_flag:
        yield "in the ini file: `on` or `off`"
    if option.is_path:
        yield "an ini value is relative to the folder of the ini file"


def escaped(text: str) -> str:
    """Return text of a help as Markdown: option names as code, nothing else special."""
    return re.sub(r"--[\w-]*\w", r"`\g<0>`", text).replace("|", "\\|").replace("*", "\\*")


class Program(Generated):
    """One entry for each argument of a program: `jmp-program MODULE`, whose function `_parser` makes its parser."""

    def lines(self) -> Iterable[str]:
        """Return an `option` directive for each argument that is meant for people."""
        parser = import_module(self.arguments[0])._parser()
        yield from (f"```{{program}} {parser.prog.removeprefix('python -m ')}", "```")
        for action in parser._actions:
            if action.help == argparse.SUPPRESS or "--help" in action.option_strings:
                continue
            names = action.option_strings[-1:] or ([] if action.metavar else [action.dest.upper()])
            value = action.metavar or ("|".join(action.choices) if action.choices else "")
            yield f":::{{option}} {' '.join([*names, value])}".rstrip()
            yield from (f"{escaped(str(action.help))}.", ":::", "")


class Fixtures(Generated):
    """One entry for each fixture, as `pytest --fixtures` shows it."""

    def lines(self) -> Iterable[str]:
        """Return a `fixture` directive for each."""
        command = [sys.executable, "-m", "pytest", "--fixtures", "-p", "no:cacheprovider"]
        with TemporaryDirectory() as folder:
            shown = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout
        ours = shown.partition("fixtures defined from pytest_jumpstarter.fixtures")[2].partition("\n---")[0]
        for name, scope, text in re.findall(
            r"^(\w+)(?: \[(\w+) scope\])? -- .*\n((?:    .*\n|\n)*)", ours, re.MULTILINE
        ):
            yield from (f":::{{fixture}} {name}", *dedent(text).splitlines(), "")
            yield from (f"scope: {scope or 'function'}", ":::", "")


class ExitCodes(Generated):
    """The table of exit codes."""

    def lines(self) -> Iterable[str]:
        """Return a row for each exit code, in the order in which they decide."""
        yield from ("| exit code | what happened |", "| --- | --- |")
        yield from (f"| {row.name} | {row.meaning} |" for row in EXIT_CODES)


class Schema(Generated):
    """The fields of the JSON report, from its schema."""

    def lines(self) -> Iterable[str]:
        """Return a row for each field."""
        schema = json.loads(files("pytest_jumpstarter.report").joinpath("run_schema.json").read_text())
        yield from ("| field | type | meaning |", "| --- | --- | --- |")
        for path, kind, meaning in fields_of(schema, schema["$defs"], ""):
            yield f"| `{path}` | {kind} | {escaped(meaning)} |"


def fields_of(part: dict[str, Any], known: dict[str, Any], prefix: str) -> Iterable[tuple[str, str, str]]:
    """Return path, type and description of each field below a part of the schema; `[]` is an element of a list."""
    for name, field in part.get("properties", {}).items():
        resolved = known[field["$ref"].rpartition("/")[2]] | field if "$ref" in field else field
        for alternative in resolved.get("anyOf", resolved.get("oneOf", [])):
            resolved = known[alternative["$ref"].rpartition("/")[2]] | resolved if "$ref" in alternative else resolved
        kind = resolved.get("type", f"`{resolved['const']}`" if "const" in resolved else "")
        yield f"{prefix}{name}", kind if isinstance(kind, str) else ", ".join(kind), resolved.get("description", "")
        yield from fields_of(resolved, known, f"{prefix}{name}.")
        items = resolved.get("items", {})
        items = known[items["$ref"].rpartition("/")[2]] if "$ref" in items else items
        yield from fields_of(items, known, f"{prefix}{name}[].")


class Waits(Generated):
    """The table of waits."""

    def lines(self) -> Iterable[str]:
        """Return a row for each kind of wait."""
        yield from ("| wait for | ends at the latest after |", "| --- | --- |")
        yield from (f"| {escaped(wait.awaited)} | {escaped(wait.bound)} |" for wait in WAITS)


class Topics(Generated):
    """A list of the pages in the folder itself, without those that a list of another room has: `jmp-topics CAPTION`."""

    elsewhere: ClassVar[set[str]] = {"index", "architecture", "fidelity", "history", "neighbours", "same-suite"}

    def lines(self) -> Iterable[str]:
        """Return a toctree."""
        found = sorted(name for name in self.env.found_docs if "/" not in name and name not in self.elsewhere)
        if found:
            yield from ("```{toctree}", f":caption: {' '.join(self.arguments)}", ":maxdepth: 1", "")
            yield from (f"/{name}" for name in found)
            yield "```"


class Names(SphinxDirective):
    """
    Document names of a module: `jmp-names MODULE`.

    The body is the names, separated by blanks; `but` and names: all of `__all__` but these; nothing: all of `__all__`.
    """

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Let autodoc write each."""
        [module] = self.arguments
        words = [word for line in self.content for word in line.split()]
        everything = import_module(module).__all__
        chosen = [name for name in everything if name not in words] if words[:1] in ([], ["but"]) else words
        return self.parse_rst("\n".join(line for name in chosen for line in self.entry(module, name)))

    def entry(self, module: str, name: str) -> Iterable[str]:
        """Return the lines for a name."""
        value = getattr(import_module(module), name)
        yield from ("", f".. {kind_of(value)}:: {module}.{name}")
        if isinstance(value, type):
            yield from ("   :members:", f"   :exclude-members: {', '.join(INTERNAL)}")
            if name.endswith("Shell"):
                yield "   :inherited-members:"
            elif value.__bases__ != (object,):
                yield "   :show-inheritance:"

    def parse_rst(self, text: str) -> list[nodes.Node]:
        """Parse reStructuredText inside of a page in Markdown."""
        node = nodes.Element()
        block = ["```{eval-rst}", *text.splitlines(), "```"]
        self.state.nested_parse(StringList(block, source="generated"), self.content_offset, node)
        return node.children


def kind_of(value: Any) -> str:
    """Return the directive of autodoc that documents a value."""
    if isinstance(value, type):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction" if callable(value) else "autodata"


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.TextElement) -> nodes.Node | None:
    """Lead a name in an annotation to the place where it is documented, whatever module it is imported from."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    domain = env.get_domain("py")
    name = target.rpartition(".")[2]
    for kind in ("class", "exception", "function", "data"):
        for full, _, found, *_ in domain.get_objects():
            if found == kind and full.rpartition(".")[2] == name and full != target:
                again = pending_xref("", **{**node.attributes, "reftarget": full, "reftype": kind})
                return domain.resolve_xref(env, node["refdoc"], app.builder, kind, full, again, contnode)
    if target.startswith("pytest_jumpstarter.") or "." not in target:
        return contnode  # a class of ours that is not public
    return None


def hide_constructor(*event: Any) -> tuple[str, str] | None:
    """Show no arguments of classes that the plugin makes, and users do not; the event has app, kind, name and more."""
    return ("", "") if event[2].rpartition(".")[2] in NOT_CALLED else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx about all this."""
    app.add_object_type("fixture", "fixture", objname="pytest fixture")
    app.add_object_type("marker", "marker", objname="pytest marker")
    app.add_directive("jmp-options", Options)
    app.add_directive("jmp-program", Program)
    app.add_directive("jmp-fixtures", Fixtures)
    app.add_directive("jmp-exit-codes", ExitCodes)
    app.add_directive("jmp-waits", Waits)
    app.add_directive("jmp-schema", Schema)
    app.add_directive("jmp-topics", Topics)
    app.add_directive("jmp-names", Names)
    app.connect("autodoc-process-signature", hide_constructor)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

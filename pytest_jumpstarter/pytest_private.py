"""All uses of pytest's private API, each with its reason."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import copy
from pathlib import Path
from types import FrameType
from typing import Any

import pytest


def colour_red(reporter: pytest.TerminalReporter) -> None:
    """
    Make the last line of the run red.

    Reason: pytest colours it yellow for a category that it does not know, and has no API for the colour.
    """
    reporter._main_color = "red"


def junit_element(config: pytest.Config, report: pytest.TestReport) -> Any:
    """
    Return the element that the JUnit plugin makes for the test of `report`, or None.

    Call this before the JUnit plugin gets the report.
    Reason: pytest has no API for it, and after the report of a teardown it cannot be found any more.
    """
    from _pytest.junitxml import xml_key

    xml = config.stash.get(xml_key, None)
    return None if xml is None else xml.node_reporter(report)


def junit_forget(config: pytest.Config, element: Any) -> None:
    """
    Remove a test's element from the JUnit file.

    Reason: the JUnit plugin writes an element for each attempt of a test.
    """
    from _pytest.junitxml import xml_key

    xml = config.stash.get(xml_key, None)
    if xml is not None and element in xml.node_reporters_ordered:
        xml.node_reporters_ordered.remove(element)


def _inicfg(config: pytest.Config) -> Any:
    return vars(config).get("_inicfg") or vars(config).get("inicfg", {})  # until pytest 9.0.0 it is the second


def has_ini_value(config: pytest.Config, prefix: str) -> bool:
    """
    Return whether the ini file has a value whose name starts with `prefix`.

    Reason: pytest stores each value that it is asked for, before it has read all overrides of the command line.
    """
    return any(str(name).startswith(prefix) for name in _inicfg(config))


def toml_value(config: pytest.Config, name: str) -> object:
    """
    Return the value of an ini option as TOML has it, from `[tool.pytest]` or `pytest.toml`; None if it has none.

    Reason: pytest 9 gives such a value only if it is of the one type that the option was declared with.
    """
    found: Any = _inicfg(config).get(name)
    return found.value if getattr(found, "mode", "ini") == "toml" else None


def grouped_by_parameters(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """
    Return tests in pytest's own order: those with the same parameter of a wide scope are together.

    Reason: pytest moves tests in the same hook as plugins, and does not tell which of them moved a test.
    """
    from _pytest.fixtures import reorder_items

    return list(reorder_items(items))


def fixture_definitions(item: pytest.Item, name: str) -> Sequence[pytest.FixtureDef[Any]]:
    """
    Return the definitions of a fixture's name for a test; the last one is in force.

    Reason: pytest offers the names that a test requests, not which of several definitions each name means.
    """
    info = getattr(item, "_fixtureinfo", None)  # only functions have it
    return info.name2fixturedefs.get(name, ()) if info is not None else ()


def skipped(reason: str) -> BaseException:
    """
    Return an exception that skips a test, and is shown with the line of the test.

    Reason: pytest shows the line that raises, which is ours; the argument that changes this is private.
    """
    return pytest.skip.Exception(reason, _use_item_location=True)


def finish_fixture(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    """
    Tear down a fixture and all that depend on it, whatever their scopes, so that the next test sets them up again.

    Reason: pytest tears a fixture down only at the end of its scope, or when its parameter changes.
    """
    fixturedef.finish(request)  # type: ignore[arg-type]  # the setup hook gets a SubRequest


def on_lookup(
    fixturedef: pytest.FixtureDef[Any],
    on_request: Callable[[pytest.Item, Sequence[pytest.FixtureRequest]], object],
    on_failure: Callable[[pytest.Item, Exception], object],
) -> None:
    """
    Call `on_request` before each lookup of a fixture, whether it is set up then or was set up before.

    `on_request` gets the test and the requests of the fixtures that lead to this one, the nearest first. `on_failure`
    gets the error of a lookup that failed, also if it is the error of an earlier setup, which pytest stores.
    Reason: pytest has a hook for the setup of a fixture only, not for later lookups.
    """
    if getattr(fixturedef, "jumpstarter_watched", False):
        return
    execute: Any = fixturedef.execute

    def watched(request: Any) -> Any:
        __tracebackhide__ = True
        on_request(request._pyfuncitem, requests_above(request))
        try:
            return execute(request)
        except Exception as exc:
            on_failure(request._pyfuncitem, exc)
            raise

    fixturedef.execute = watched  # type: ignore[method-assign]  # for this one fixture
    fixturedef.jumpstarter_watched = True  # type: ignore[attr-defined]


def requests_above(request: pytest.FixtureRequest) -> Sequence[pytest.FixtureRequest]:
    """
    Return the requests of the fixtures that lead to the one of `request`, the nearest first.

    Reason: pytest has no public API for which fixture requested which.
    """
    return [*request._iter_chain()][1:]


def item_of(request: pytest.FixtureRequest) -> pytest.Item:
    """
    Return the test for which a fixture is looked up.

    Reason: the request of a session fixture offers only the session.
    """
    item: pytest.Item = request._pyfuncitem
    return item


def request_of(item: pytest.Item) -> pytest.FixtureRequest:
    """
    Return the request of a test, which looks up fixtures.

    Reason: pytest gives it to fixtures only.
    """
    request: pytest.FixtureRequest = item._request  # type: ignore[attr-defined]  # of functions
    return request


def fixturedef_of(request: pytest.FixtureRequest) -> pytest.FixtureDef[Any]:
    """
    Return the fixture that a request is for.

    Reason: pytest passes it to the setup hook only.
    """
    found: pytest.FixtureDef[Any] = request._fixturedef  # type: ignore[attr-defined]  # only SubRequest has it
    return found


def on_getfixturevalue(request: pytest.FixtureRequest, on_fixture: Callable[[pytest.FixtureDef[Any]], object]) -> None:
    """
    Call `on_fixture` with each fixture that another one gets by `request.getfixturevalue`.

    Reason: pytest does not record that the fixture depends on the one that it got so, and answers a second lookup by
    the same request from a cache.
    """
    if getattr(request, "jumpstarter_watched", False):
        return
    original: Any = request.getfixturevalue

    def getfixturevalue(argname: str) -> Any:
        __tracebackhide__ = True
        with _warnings_for(request, sys._getframe(1)):
            value = original(argname)
        if argname != "request":
            on_fixture(request._get_active_fixturedef(argname))
        return value

    request.getfixturevalue = getfixturevalue  # type: ignore[method-assign]  # for this one request
    request.jumpstarter_watched = True  # type: ignore[attr-defined]


@contextmanager
def _warnings_for(request: pytest.FixtureRequest, caller: FrameType) -> Iterator[None]:
    """
    In a teardown, issue warnings of our call of `getfixturevalue` for the line that called us.

    Reason: pytest warns of such calls, for the line that calls it. Only its private state tells the phase.
    """
    __tracebackhide__ = True
    is_active: Callable[[object], bool] = getattr(request.session._setupstate, "is_node_active", lambda _: True)
    if is_active(request.node):
        return (yield)
    try:
        with warnings.catch_warnings(record=True, action="always") as caught:
            yield
    finally:
        for each in caught:
            is_ours, place = each.filename == __file__, (caller.f_code.co_filename, caller.f_lineno)
            warnings.warn_explicit(each.message, each.category, *(place if is_ours else (each.filename, each.lineno)))


def uses_request(item: pytest.Item) -> bool:
    """
    Return whether a test, or a fixture of its suite, may look up more fixtures by name while it runs.

    Reason: pytest offers the names of all fixtures of a test, not the arguments of its function and of each fixture.
    """
    if isinstance(item, pytest.DoctestItem):
        return True  # a doctest may call getfixture()
    info = getattr(item, "_fixtureinfo", None)
    if info is None:
        return False
    callspec = getattr(item, "callspec", None)
    if callspec is not None and any(hasattr(value, "load_fixture") for value in callspec.params.values()):
        return True  # a parameter of pytest-lazy-fixtures
    fixtures = (fixturedef for name in info.names_closure for fixturedef in info.name2fixturedefs.get(name, ())[-1:])
    return "request" in info.argnames or any("request" in each.argnames and _is_of_suite(each) for each in fixtures)


def _is_of_suite(fixturedef: pytest.FixtureDef[Any]) -> bool:
    code = getattr(fixturedef.func, "__code__", None)
    path = Path(code.co_filename) if code is not None else Path()
    return "site-packages" not in path.parts and not path.is_relative_to(Path(__file__).parent)


def forget_instance(item: pytest.Item) -> None:
    """
    Make pytest create a new instance of the test's class for the next attempt.

    Reason: pytest keeps the instance with the test, so attributes of the last attempt would remain.
    """
    if getattr(item, "_instance", None) is not None:
        del item._instance  # type: ignore[attr-defined]  # only test methods have it
        item._obj = None  # type: ignore[attr-defined]  # bound to that instance


def junit_suite_property(config: pytest.Config, name: str, value: str) -> None:
    """
    Set a property of the whole run in the JUnit file, if there is one; an empty value removes it.

    Reason: pytest offers this by a fixture only, which does not work under xdist.
    """
    from _pytest.junitxml import xml_key

    xml = config.stash.get(xml_key, None)
    if xml is not None:
        xml.global_properties[:] = [each for each in xml.global_properties if each[0] != name]
        if value:
            xml.add_global_property(name, value)


def junit_interrupted(config: pytest.Config, test: str, reason: str) -> None:
    """
    Add an `<error>` to the element of a test that began and did not end.

    Reason: the JUnit plugin writes an element without a name for it, which looks like a passed test.
    """
    from _pytest.junitxml import bin_xml_escape, mangle_test_address, xml_key

    if (xml := config.stash.get(xml_key, None)) is None:
        return
    element = next((each for key, each in xml.node_reporters.items() if str(key[0]) == test), None)
    element = element or xml.node_reporter(test)
    if not any(node.tag in ("error", "failure") for node in element.nodes):
        *names, name = mangle_test_address(test)
        element.attrs.update(classname=".".join(filter(None, [xml.prefix, *names])), name=bin_xml_escape(name))
        element._add_simple("error", bin_xml_escape(reason), reason)


def junit_change(config: pytest.Config, change: Callable[[str], str]) -> None:
    """
    Change the properties of the run and the attributes of its tests in the JUnit file.

    Reason: `record_testsuite_property` and `record_xml_attribute` write them without a hook.
    """
    from _pytest.junitxml import xml_key

    if (xml := config.stash.get(xml_key, None)) is None:
        return
    xml.global_properties[:] = [(change(name), change(value)) for name, value in xml.global_properties]
    for element in xml.node_reporters_ordered:
        attributes = element.attrs if hasattr(element, "attrs") else element.to_xml().attrib
        for name in attributes.keys() - {"time", "line"}:
            attributes[name] = change(attributes[name])


def junit_write(config: pytest.Config, replacing: Callable[[Path], AbstractContextManager[Path]]) -> None:
    """
    Write the JUnit file, where `replacing` says; it is written again later.

    Reason: pytest writes it only once, before all teardowns, and not at once as a whole.
    """
    from _pytest.junitxml import xml_key

    if (xml := config.stash.get(xml_key, None)) is None:
        return
    now = copy(xml)  # a second signal may come in the middle of it, and then another thread writes the file, too
    now.node_reporters_ordered = [test for test in xml.node_reporters_ordered if test.to_xml().get("name")]  # has ended
    with replacing(Path(xml.logfile)) as now.logfile:
        now.pytest_sessionfinish()


def junit_error(config: pytest.Config, element: Any, kind: str) -> None:
    """
    Change the last `<failure>` or `<error>` of a test in the JUnit file to an `<error type="…">`.

    Reason: the JUnit plugin writes each failure of the call phase as `<failure>`, and has no API for the type.
    """
    from _pytest.junitxml import xml_key

    xml = config.stash.get(xml_key, None)
    nodes = [node for node in element.to_xml() if node.tag in ("failure", "error")] if element is not None else []
    if nodes and xml is not None:
        if nodes[-1].tag == "failure":
            xml.stats["failure"] -= 1
            xml.stats["error"] += 1
        nodes[-1].tag = "error"
        nodes[-1].set("type", kind)


def junit_output(element: Any, text: str) -> None:
    """
    Add text as a `<system-out>` of a test; call this before the JUnit plugin gets the report of the same phase.

    Reason: the JUnit plugin ignores sections of reports that it does not know.
    """
    import xml.etree.ElementTree as ET

    from _pytest.junitxml import bin_xml_escape

    node = ET.Element("system-out")
    node.text = bin_xml_escape(text)
    element.append(node)


def log_handlers(config: pytest.Config) -> list[logging.Handler]:
    """
    Return the log handlers by which pytest shows and writes log records.

    Reason: a filter on a logger only gets the records of this logger, and pytest has no hook for log records.
    """
    plugin = config.pluginmanager.get_plugin("logging-plugin")
    names = ("report_handler", "log_cli_handler", "log_file_handler")
    found = [getattr(plugin, name, None) for name in names]
    return [handler for handler in found if isinstance(handler, logging.Handler)]


class _ChangedFile:
    """A file that changes each text that is written to it."""

    def __init__(self, file: Any, change: Callable[[str], str]) -> None:
        self._file = file
        self._change = change

    def write(self, text: str) -> Any:
        """Write a text."""
        return self._file.write(self._change(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def change_terminal(config: pytest.Config, change: Callable[[str], str]) -> None:
    """
    Call `change` with each text that is written to pytest's terminal, and write what it returns; once for each run.

    Reason: pytest has no hook for what it and plugins write.
    """
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    writer = getattr(reporter, "_tw", None)
    file = getattr(writer, "_file", None)
    if writer is not None and file is not None and not isinstance(file, _ChangedFile):
        writer._file = _ChangedFile(file, change)

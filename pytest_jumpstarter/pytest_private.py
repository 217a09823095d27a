"""The touches of pytest's private API, each with its reason."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest


def colour_red(reporter: pytest.TerminalReporter) -> None:
    """
    Let the last line of the run be red.

    Reason: pytest colours it yellow for a category that it does not know, and has no way to be told otherwise.
    """
    reporter._main_color = "red"


def junit_element(config: pytest.Config, report: pytest.TestReport) -> Any:
    """
    Return what the JUnit plugin writes the test of `report` with, or None; ask before it sees the report.

    Reason: after a teardown it is final, and cannot be found any more.
    """
    from _pytest.junitxml import xml_key

    xml = config.stash.get(xml_key, None)
    return None if xml is None else xml.node_reporter(report)


def junit_forget(config: pytest.Config, element: Any) -> None:
    """
    Leave a test's element out of the JUnit file.

    Reason: the JUnit plugin writes one for each time that a test runs.
    """
    from _pytest.junitxml import xml_key

    xml = config.stash.get(xml_key, None)
    if xml is not None and element in xml.node_reporters_ordered:
        xml.node_reporters_ordered.remove(element)


def fixture_definitions(item: pytest.Item, name: str) -> Sequence[pytest.FixtureDef[Any]]:
    """
    Return what a fixture's name stands for in a test, the definition that counts last.

    Reason: pytest tells the names that a test asks for, not which of several definitions each one means.
    """
    info = getattr(item, "_fixtureinfo", None)  # of functions only
    return info.name2fixturedefs.get(name, ()) if info is not None else ()


def skipped(reason: str) -> BaseException:
    """
    Return what skips a test and is shown at the test's own place.

    Reason: pytest shows the line that raises, which is ours, and keeps the way to say otherwise to itself.
    """
    return pytest.skip.Exception(reason, _use_item_location=True)


def finish_fixture(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    """
    Tear down a fixture and all that depend on it, whatever their scopes, so that the next test makes them again.

    Reason: pytest ends a fixture with its scope only, or when its parameter changes.
    """
    fixturedef.finish(request)  # type: ignore[arg-type]  # what the setup hook hands out is a SubRequest


def on_lookup(
    fixturedef: pytest.FixtureDef[Any],
    on_request: Callable[[pytest.Item, Sequence[pytest.FixtureRequest]], object],
    on_failure: Callable[[pytest.Item, Exception], object],
) -> None:
    """
    Call `on_request` before each lookup of a fixture, whether it is to be set up or stands already.

    It is given the test, and the requests of the fixtures that lead to this one, the nearest first; `on_failure` is
    given the error of a lookup that failed, also where pytest has kept it from the setup.
    Reason: pytest tells of a fixture's setup only; a test that gets one that stands leaves no trace.
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

    fixturedef.execute = watched  # type: ignore[method-assign]  # of this one fixture
    fixturedef.jumpstarter_watched = True  # type: ignore[attr-defined]


def requests_above(request: pytest.FixtureRequest) -> Sequence[pytest.FixtureRequest]:
    """
    Return the requests of the fixtures that lead to the one of `request`, the nearest first.

    Reason: pytest keeps to itself which fixture asked for which.
    """
    return [*request._iter_chain()][1:]


def item_of(request: pytest.FixtureRequest) -> pytest.Item:
    """
    Return the test for which a fixture is looked up.

    Reason: the request of a session fixture tells its session only.
    """
    item: pytest.Item = request._pyfuncitem
    return item


def fixturedef_of(request: pytest.FixtureRequest) -> pytest.FixtureDef[Any]:
    """
    Return the fixture that a request is for.

    Reason: pytest hands it to the setup hook only.
    """
    found: pytest.FixtureDef[Any] = request._fixturedef  # type: ignore[attr-defined]  # of SubRequest
    return found


def on_getfixturevalue(request: pytest.FixtureRequest, on_fixture: Callable[[pytest.FixtureDef[Any]], object]) -> None:
    """
    Call `on_fixture` with each fixture that another one gets by `request.getfixturevalue`.

    Reason: pytest does not note that such a fixture depends on what it asked for, and a second lookup by the same
    request is answered from a cache.
    """
    if getattr(request, "jumpstarter_watched", False):
        return
    ask: Any = request.getfixturevalue

    def getfixturevalue(argname: str) -> Any:
        __tracebackhide__ = True
        value = ask(argname)
        if argname != "request":
            on_fixture(request._get_active_fixturedef(argname))
        return value

    request.getfixturevalue = getfixturevalue  # type: ignore[method-assign]  # for this one request
    request.jumpstarter_watched = True  # type: ignore[attr-defined]


def uses_request(item: pytest.Item) -> bool:
    """
    Return whether a test, or a fixture of its suite, may look up more fixtures by name while it runs.

    Reason: pytest tells the names that a test asks for, not those of its function, nor those of its fixtures.
    """
    if isinstance(item, pytest.DoctestItem):
        return True  # which has getfixture()
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
    Let a test that runs again have a fresh instance of its class.

    Reason: pytest keeps it with the test, whose attributes would survive.
    """
    if getattr(item, "_instance", None) is not None:
        del item._instance  # type: ignore[attr-defined]  # of test methods only
        item._obj = None  # type: ignore[attr-defined]  # bound to that instance


def junit_suite_property(config: pytest.Config, name: str, value: str) -> None:
    """
    Write a property of the whole run into the JUnit file, if there is one.

    Reason: pytest offers it to tests only, by a fixture, which is of no use under xdist.
    """
    from _pytest.junitxml import xml_key

    xml = config.stash.get(xml_key, None)
    if xml is not None:
        xml.add_global_property(name, value)


def junit_error(config: pytest.Config, element: Any, kind: str) -> None:
    """
    Turn the last `<failure>` or `<error>` of a test in the JUnit file into an `<error type="…">`.

    Reason: the JUnit plugin calls every failure of the call phase a `<failure>`, and takes no type for either.
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
    Write text into a test's `<system-out>`, before the report that it belongs to is taken in.

    Reason: the JUnit plugin leaves out sections of reports that it does not know.
    """
    import xml.etree.ElementTree as ET

    from _pytest.junitxml import bin_xml_escape

    node = ET.Element("system-out")
    node.text = bin_xml_escape(text)
    element.append(node)


def log_handlers(config: pytest.Config) -> list[logging.Handler]:
    """
    Return what pytest shows, keeps and writes log records with.

    Reason: a filter of a logger sees its own records only, and pytest has no hook for them.
    """
    plugin = config.pluginmanager.get_plugin("logging-plugin")
    names = ("caplog_handler", "report_handler", "log_cli_handler", "log_file_handler")
    found = [getattr(plugin, name, None) for name in names]
    return [handler for handler in found if isinstance(handler, logging.Handler)]


class _Loggers(dict[str, Any]):
    """The loggers of the process; while they are gone through, another thread may add one."""

    def values(self) -> Any:
        """Return the loggers that are there now."""
        return list(super().values())


def let_loggers_come() -> None:
    """
    Let a thread import modules, which make loggers, while tests run.

    Reason: pytest goes through all loggers, without a lock, whenever a phase of a test begins.
    """
    manager = logging.Logger.manager
    if not isinstance(manager.loggerDict, _Loggers):
        manager.loggerDict = _Loggers(manager.loggerDict)

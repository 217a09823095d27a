"""
The fixtures `jumpstarter`, `console` and `record_metric`, and `device_fixture`, which makes device fixtures.

`plugin` imports them, and pytest finds them there; it also makes `dut`, unless another plugin has one. This module is
not a plugin, so `-p no:jumpstarter` removes them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

import pytest

from pytest_jumpstarter.roles import (
    ROLES,
    Wish,
    check_arguments,
    remember_wish,
)
from pytest_jumpstarter.settings import SETTINGS

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.device.board import Board
    from pytest_jumpstarter.device.board_results import BoardResult
    from pytest_jumpstarter.device.console import Console
    from pytest_jumpstarter.evidence.metrics import MetricRecorder
    from pytest_jumpstarter.running.run import Run

    _B = TypeVar("_B", bound=Board)


@pytest.fixture(scope="session")
def jumpstarter(request: pytest.FixtureRequest) -> Iterator[Run]:
    """The run: `.client` (the v1 client), `.mode`, `.leases`, `.settings`."""
    from pytest_jumpstarter.host.real_files import real_files

    with real_files():
        run = _started_run(request)
    yield run
    run.close()


def _started_run(request: pytest.FixtureRequest) -> Run:
    from pytest_jumpstarter.host.grpc_import import before_grpc
    from pytest_jumpstarter.running import SCHEDULE

    if (schedule := request.config.stash.get(SCHEDULE, None)) is not None:
        schedule.wait_for_imports()
    before_grpc()
    from pytest_jumpstarter.running.start import start_run

    return start_run(request.session, request.config.stash[SETTINGS])


@overload
def device_fixture(
    kind: type[_B],
    /,
    *,
    selector: str | None = None,
    exporter: str | None = None,
    scope: str | None = None,
    requires: Sequence[str] = (),
    selectors: Sequence[str] = (),
) -> Callable[..., _B]: ...


@overload
def device_fixture(
    *,
    selector: str | None = None,
    exporter: str | None = None,
    scope: str | None = None,
    requires: Sequence[str] = (),
    selectors: Sequence[str] = (),
) -> Callable[..., Device]: ...


def device_fixture(
    kind: type[Board] | None = None,
    /,
    *,
    selector: str | None = None,
    exporter: str | None = None,
    scope: str | None = None,
    requires: Sequence[str] = (),
    selectors: Sequence[str] = (),
) -> Callable[..., Device]:
    """
    Return a fixture that yields a connected `Device`; the name of the fixture is the role of the device.

    ::

        # conftest.py
        gateway = device_fixture(selector="kind=gateway,can", scope="module")

    Args:
        kind: A class derived from `Board`, which the device is then of; the drivers that it declares are required.
        selector: Label selector of the exporter; `--jmp-selector gateway:…` overrides it.
        exporter: Name of the exporter; `--jmp-exporter gateway:…` overrides it.
        scope: session, package, module, class or function; None for `--jmp-scope`.
        requires: Dotted paths of drivers that the device must have; if it lacks one, its tests are skipped.
        selectors: Several selectors instead of one: the tests run once for each, with the selector in their names.

    Raises:
        SelectorError: A selector does not parse.
        OptionError: There is no such scope.
        TypeError: `kind` is not such a class.
    """
    __tracebackhide__ = True  # for an error in a conftest, pytest then shows the line that called us
    check_arguments(selectors if selector is None else (selector,), scope)
    required = (*requires, *(_required_drivers(kind) if kind is not None else ()))
    wish = Wish(selector=selector, exporter=exporter, scope=scope, requires=required, selectors=tuple(selectors))
    if not wish.is_empty:
        from pytest_jumpstarter.host.grpc_import import before_grpc

        before_grpc()

    def device(request: pytest.FixtureRequest) -> Generator[Device, None, None]:
        """A leased, connected device. Its drivers are attributes: `dut.power.on()`."""
        yield from leased_device(request, wish, kind)

    caller = sys._getframe(1).f_globals.get("__name__", "")
    if not caller.startswith("pytest_jumpstarter."):
        device.__module__ = caller  # `--fixtures` shows it there; pytest cannot sort two of one name and place
    return fixture_of(device, wish)


def _required_drivers(kind: type[Board]) -> list[str]:
    """Return the drivers that a kind of board must have."""
    __tracebackhide__ = True
    from pytest_jumpstarter.device.board import Board, declared_drivers

    if not isinstance(kind, type) or not issubclass(kind, Board):
        hint = f"; a selector is given as selector={kind!r}" if isinstance(kind, str) else ""
        raise TypeError(f"device_fixture: {kind!r} is not a class derived from Board{hint}")
    return [name for name, is_required in declared_drivers(kind).items() if is_required]


def leased_device(
    request: pytest.FixtureRequest, wish: Wish, kind: type[Board] | None = None
) -> Generator[Device, None, None]:
    """
    Yield the device of the role that the fixture is named after.

    Args:
        request: The request of the fixture.
        wish: The arguments of the fixture.
        kind: The class of the device; None for `Device`.
    """
    from pytest_jumpstarter.host.real_files import real_files

    role = str(request.fixturename)
    with ExitStack() as stack:
        with real_files():
            from pytest_jumpstarter.device.device import connected
            from pytest_jumpstarter.devices_of import wanted_device
            from pytest_jumpstarter.running import SCHEDULE
            from pytest_jumpstarter.running.device_fixtures import device_fixtures

            run: Run = request.getfixturevalue("jumpstarter")
            fixtures = device_fixtures(request.session)
            fixtures.note_setup(request)
            wanted = wanted_device(run.settings, role, wish, getattr(request, "param", None))
            schedule = request.config.stash.get(SCHEDULE, None)
            together = schedule.together(wanted) if schedule is not None else [wanted]
            with fixtures.noting_failure(request):
                device = stack.enter_context(run.device(wanted, together))
                device = device if kind is None else kind(connected(device))
        yield device
        with real_files():
            stack.close()


def fixture_of(function: Any, wish: Wish) -> Callable[..., Device]:
    """Return a fixture made from a function or class method that yields a device."""

    def scope_in_force(fixture_name: str, config: pytest.Config) -> Any:
        config.stash[ROLES].add(fixture_name)  # pytest calls this once for each fixture, when it finds it
        return wish.scope or config.stash[SETTINGS]["scope"].value

    remember_wish(function, wish)
    fixture = pytest.fixture(scope=scope_in_force)(function)
    remember_wish(fixture, wish)
    return fixture


@pytest.fixture
def record_metric(request: pytest.FixtureRequest) -> MetricRecorder:
    """
    Record a number that the test measured.

    For example `record_metric("boot_time", 3.2, unit="s", max=5)`; a value over `max` fails the test.
    """
    from pytest_jumpstarter.evidence.metrics import recorder

    return recorder(request.node)


@pytest.fixture
def console(dut: Device, request: pytest.FixtureRequest) -> Iterator[Console]:
    """
    The serial console of `dut`, with pexpect's methods.

    They are `expect`, `expect_exact`, `sendline`, `before`, `after` and more.
    """
    found = dut.console()
    before = found.fatal, found.timeout, found.keeps_escapes, found.spawn.searchwindowsize
    if hasattr(pytest, "Subtests"):  # pytest 9
        found.on_result = partial(_subtest, request)
    yield found  # what a test sets is its own
    found.on_result = None
    found.fatal, found.timeout, found.keeps_escapes, found.spawn.searchwindowsize = before
    found.discard()  # so that the next test does not read output of this one


def _subtest(request: pytest.FixtureRequest, result: BoardResult) -> None:
    """Report the result of a test that ran on the board as that of a subtest."""
    with request.getfixturevalue("subtests").test(result.name):
        if result.outcome == "failed":
            pytest.fail(result.message or "it failed on the board", pytrace=False)
        if result.outcome == "skipped":
            pytest.skip(result.message)

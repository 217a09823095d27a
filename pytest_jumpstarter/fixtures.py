"""
The fixtures `jumpstarter` and `console`, and `device_fixture`, which makes device fixtures.

`plugin` imports them, and pytest finds them there. This module is not a plugin, so `-p no:jumpstarter` removes them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from pytest_jumpstarter.roles import (
    ROLES,
    Wish,
    check_arguments,
    remember_wish,
    wanted_device,
)
from pytest_jumpstarter.settings import SETTINGS

if TYPE_CHECKING:
    from pytest_jumpstarter.device import Device
    from pytest_jumpstarter.device.console import Console
    from pytest_jumpstarter.running.run import Run


@pytest.fixture(scope="session")
def jumpstarter(request: pytest.FixtureRequest) -> Iterator[Run]:
    """The run: `.client` (the v1 client), `.mode`, `.leases`, `.settings`."""
    from pytest_jumpstarter.running.schedule import SCHEDULE

    if (schedule := request.config.stash.get(SCHEDULE, None)) is not None:
        schedule.wait_for_imports()
    from pytest_jumpstarter.running.start import start_run

    run = start_run(request.session, request.config.stash[SETTINGS])
    yield run
    run.close()


def device_fixture(
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
        selector: Label selector of the exporter; `--jmp-selector gateway:…` overrides it.
        exporter: Name of the exporter; `--jmp-exporter gateway:…` overrides it.
        scope: session, package, module, class or function; None for `--jmp-scope`.
        requires: Dotted paths of drivers that the device must have; if it lacks one, its tests are skipped.
        selectors: Several selectors instead of one: the tests run once for each, with the selector in their names.

    Raises:
        SelectorError: A selector does not parse.
        OptionError: There is no such scope.
    """
    __tracebackhide__ = True  # for an error in a conftest, pytest then shows the line that called us
    check_arguments(selectors if selector is None else (selector,), scope)
    wish = Wish(selector=selector, exporter=exporter, scope=scope, requires=tuple(requires), selectors=tuple(selectors))

    def device(request: pytest.FixtureRequest) -> Generator[Device, None, None]:
        """A leased, connected device; its drivers are attributes: `.power.on()`, `.console()`."""
        yield from leased_device(request, wish)

    return fixture_of(device, wish)


def leased_device(request: pytest.FixtureRequest, wish: Wish) -> Generator[Device, None, None]:
    """Yield the device of the role that the fixture is named after; `wish` has the arguments of the fixture."""
    from pytest_jumpstarter.running.device_fixtures import device_fixtures
    from pytest_jumpstarter.running.schedule import SCHEDULE

    role = str(request.fixturename)
    run: Run = request.getfixturevalue("jumpstarter")
    fixtures = device_fixtures(request.session)
    fixtures.note_setup(request)
    wanted = wanted_device(run.settings, role, wish, getattr(request, "param", None))
    schedule = request.config.stash.get(SCHEDULE, None)
    together = schedule.together(wanted) if schedule is not None else [wanted]
    with ExitStack() as stack:
        with fixtures.noting_failure(request):
            device = stack.enter_context(run.device(wanted, together))
        yield device


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
def console(dut: Device) -> Iterator[Console]:
    """The serial console of `dut`, with pexpect's methods: `expect`, `expect_exact`, `sendline`, `before`, `after`."""
    found = dut.console()
    yield found
    found.discard()  # so that the next test does not read output of this one

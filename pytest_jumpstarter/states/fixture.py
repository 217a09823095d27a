"""`board_state`, which makes the fixture of a board state from the transition into it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, overload

import pytest

from pytest_jumpstarter.errors import OptionError
from pytest_jumpstarter.options import SCOPES
from pytest_jumpstarter.roles import STATES, declared_roles
from pytest_jumpstarter.settings import SETTINGS
from pytest_jumpstarter.states.graph import State
from pytest_jumpstarter.states.planned import StateFixture, remember, state_fixture

if TYPE_CHECKING:
    from typing import Protocol

    class BoardState(Protocol):
        """The fixture of a board state."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            """Do not call it: request the fixture."""

        def of(self, role: str, /, *, name: str | None = None) -> BoardState:
            """
            Return the fixture of the same state for the device of another role.

            ::

                gateway = device_fixture(selector="kind=gateway")
                gateway_linux = linux.of("gateway")
            """


_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
_FIXTURES = (_POSITIONAL, inspect.Parameter.KEYWORD_ONLY)


@overload
def board_state(function: Callable[..., Any], /) -> BoardState: ...


@overload
def board_state(
    *,
    after: BoardState | Sequence[BoardState] = (),
    tries: int = 1,
    scope: str | None = None,
    params: Sequence[object] | None = None,
    ids: Sequence[str] | Callable[[Any], object] | None = None,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], BoardState]: ...


def board_state(
    function: Callable[..., Any] | None = None,
    /,
    *,
    after: Any = (),
    tries: int = 1,
    scope: str | None = None,
    params: Any = None,
    ids: Any = None,
    name: str | None = None,
) -> Any:
    """
    Make a fixture of a board state; the function is the transition into it, and what it returns or yields the value.

    ::

        @board_state
        def off(dut):
            dut.power.off()

        @board_state(after=off, tries=2)
        def linux(dut):
            dut.power.on()
            return Shell(dut.console(), prompt="# ", user="root").login(timeout=90)

    Args:
        function: The transition. Its first argument is the device fixture; the others are fixtures, as usual.
        after: The states that the transition starts from; without any, it starts from wherever the board is.
        tries: How often the transition is tried, each time from a root.
        scope: As of `pytest.fixture`; None for that of the device. The state is reached anew in each scope.
        params: As of `pytest.fixture`.
        ids: As of `pytest.fixture`.
        name: The name of the fixture and of the state; None for that of the function.

    Raises:
        TypeError: `after` has something else than board states, or one with `params`, or the function is no transition.
        OptionError: There is no such scope, or `tries` is less than 1.
    """
    __tracebackhide__ = True  # for an error in a conftest, pytest then shows the line that called us
    _check_arguments(scope, tries)

    def make(function: Callable[..., Any]) -> Any:
        __tracebackhide__ = True
        role, *arguments = _arguments(function)
        before, title = _states(function, after), name or function.__name__
        made = State(name=title, function=function, after=before, tries=tries, arguments=tuple(arguments))
        fixture = StateFixture(state=made, role=role, scope=scope, has_params=params is not None)
        return _fixture(fixture, params, ids, name)

    return make if function is None else make(function)


def _check_arguments(scope: str | None, tries: object) -> None:
    __tracebackhide__ = True
    if scope is not None and scope not in SCOPES:
        raise OptionError(f"board_state: {scope!r} is not a scope; choose from {', '.join(SCOPES)}")
    if isinstance(tries, bool) or not isinstance(tries, int) or tries < 1:
        raise OptionError(f"board_state: tries={tries!r} is not a whole number from 1")


def _arguments(function: Callable[..., Any]) -> list[str]:
    """Return the fixtures that a transition gets: its arguments without a default."""
    __tracebackhide__ = True
    title = f"board_state {getattr(function, '__name__', function)!r}"
    if state_fixture(function) is not None or not inspect.isfunction(function):
        raise TypeError(f"{title}: only a function can be a transition, and it can be decorated once")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{title}: a transition cannot be async")
    parameters = inspect.signature(function).parameters.values()
    if any(each.kind not in _FIXTURES for each in parameters):
        raise TypeError(f"{title}: *args, **kwargs and positional-only arguments are no fixtures")
    names = [each.name for each in parameters if each.default is inspect.Parameter.empty]
    if not names or names[0] in ("self", "cls", "request"):
        raise TypeError(f"{title}: its first argument must be the device fixture, such as dut; write it as a function")
    return names


def _states(function: Callable[..., Any], after: Any) -> tuple[State, ...]:
    __tracebackhide__ = True
    given = tuple(after) if isinstance(after, tuple | list) else (after,)
    found = [state_fixture(each) for each in given]
    if None in found:
        wrong = given[found.index(None)]
        raise TypeError(
            f"board_state {function.__name__!r}: after={wrong!r} is not a board state; give states defined above"
        )
    before = [each for each in found if each is not None]
    for each in before:
        if each.has_params:
            raise TypeError(
                f"board_state {function.__name__!r}: after={each.state.name} has params, and a transition on the way "
                f"gets none; move them to a fixture, @pytest.fixture(params=…), that {each.state.name!r} requests"
            )
    return tuple(dict.fromkeys(each.state for each in before))


def _fixture(made: StateFixture, params: Any, ids: Any, name: str | None) -> Any:
    """Return the fixture; its signature has the fixtures of all transitions, so that pytest knows them beforehand."""

    def transition(request: pytest.FixtureRequest, **fixtures: Any) -> Generator[Any, None, None]:
        __tracebackhide__ = True  # for errors of the transition
        from pytest_jumpstarter.states.board_states import board_states

        yield from board_states(request.session).enter(made, request, fixtures)

    def scope_in_force(fixture_name: str, config: pytest.Config) -> Any:
        known = config.stash[STATES].setdefault(fixture_name, [])  # pytest calls this once for each fixture it finds
        known.append(made)
        wish = declared_roles(config.pluginmanager.get_plugins()).get(made.role)
        return made.scope or (wish and wish.scope) or config.stash[SETTINGS]["scope"].value

    function = made.state.function
    names = dict.fromkeys(["request", made.role, *made.state.fixtures()])
    transition.__name__, transition.__doc__ = function.__name__, function.__doc__
    transition.__module__, transition.__qualname__ = function.__module__, function.__qualname__
    transition.__dict__["__wrapped__"] = function  # where `--fixtures` and errors lead
    transition.__dict__["__signature__"] = inspect.Signature([inspect.Parameter(each, _POSITIONAL) for each in names])
    fixture: Any = pytest.fixture(scope=scope_in_force, params=params, ids=ids, name=name)(transition)

    def of(role: str, /, *, name: str | None = None) -> Any:
        return _fixture(dataclasses.replace(made, role=role), params, ids, name)

    fixture.of = of
    remember(transition, made)
    remember(fixture, made)
    return fixture

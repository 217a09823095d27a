"""Paths between board states, and what `board_state` accepts."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_jumpstarter import board_state
from pytest_jumpstarter.errors import OptionError
from pytest_jumpstarter.states.graph import State, path_to
from pytest_jumpstarter.states.planned import state_fixture


def made(name: str, *after: State, arguments: tuple[str, ...] = ()) -> State:
    """Return a state."""
    return State(name=name, function=lambda _: None, after=after, arguments=arguments)


OFF = made("off")
RECOVERY = made("recovery")
UBOOT = made("uboot", OFF, arguments=("image",))
LINUX = made("linux", UBOOT, OFF, arguments=("password", "image"))
GRAPHICS = made("graphics", LINUX)
RESCUED = made("rescued", RECOVERY, GRAPHICS)


@pytest.mark.parametrize(
    ("goal", "start", "path"),
    [
        (OFF, None, [OFF]),
        (UBOOT, None, [OFF, UBOOT]),
        (LINUX, None, [OFF, LINUX]),
        (LINUX, UBOOT, [LINUX]),
        (LINUX, OFF, [LINUX]),
        (UBOOT, LINUX, [OFF, UBOOT]),
        (GRAPHICS, UBOOT, [LINUX, GRAPHICS]),
        (RESCUED, GRAPHICS, [RESCUED]),
        (RESCUED, UBOOT, [RECOVERY, RESCUED]),
        (OFF, GRAPHICS, [OFF]),
    ],
)
def test_the_shortest_path(goal: State, start: State | None, path: list[State]) -> None:
    """From where the board is, or from a root, whichever is shorter."""
    assert path_to(goal, start) == tuple(path)


def test_a_path_around_what_cannot_be_reached() -> None:
    """A state that cannot be reached is avoided, by a longer path if there is one."""
    assert path_to(RESCUED, None, {RECOVERY}) == (OFF, LINUX, GRAPHICS, RESCUED)
    assert path_to(RESCUED, None, {RECOVERY, LINUX}) is None
    assert path_to(LINUX, UBOOT, {UBOOT}) == (LINUX,)
    assert path_to(LINUX, None, {LINUX}) is None


def test_the_longest_distance_orders() -> None:
    """What leads to a state comes before it."""
    assert [state.distance for state in (OFF, UBOOT, LINUX, GRAPHICS, RESCUED)] == [0, 1, 2, 3, 4]
    assert set(RESCUED.ancestors()) == {RESCUED, RECOVERY, GRAPHICS, LINUX, UBOOT, OFF}
    assert sorted(LINUX.fixtures()) == ["image", "password"]


def test_many_diamonds_are_no_burden() -> None:
    """The number of paths may be huge; the search looks at each state once."""
    state = OFF
    for number in range(60):
        sides = [made(f"{side}{number}", state) for side in ("left", "right")]
        state = made(f"join{number}", *sides)
    path = path_to(state, None)
    assert path is not None
    assert len(path) == 121
    assert len(list(state.ancestors())) == 181


def test_a_state_knows_its_device_and_fixtures() -> None:
    """The first argument is the device; arguments with defaults are no fixtures, as for pytest."""

    @board_state
    def off(board: Any, timeout: float = 3.0) -> None: ...

    @board_state(after=[off], tries=3, name="running", scope="module")
    def linux(board: Any, image: Any, *, password: Any) -> None: ...

    found, other = state_fixture(linux), state_fixture(linux.of("gateway"))
    assert found is not None
    assert other is not None
    assert (found.role, found.scope, found.state.name, found.state.tries) == ("board", "module", "running", 3)
    assert found.state.arguments == ("image", "password")
    assert [state.name for state in found.state.after] == ["off"]
    assert (other.role, other.state) == ("gateway", found.state)


async def _async(dut: Any) -> None: ...


def _without() -> None: ...


def _method(self: Any, dut: Any) -> None: ...


def _any(*args: Any) -> None: ...


@pytest.mark.parametrize(
    "function", [_async, _without, _method, _any, 3, print], ids=lambda value: getattr(value, "__name__", str(value))
)
def test_what_is_no_transition(function: Any) -> None:
    """The error says what is wrong, where pytest loads the conftest."""
    with pytest.raises(TypeError, match="board_state"):
        board_state(function)


def test_wrong_arguments() -> None:
    """`after` takes states only; scope and tries are checked."""

    def linux(dut: Any) -> None: ...

    for wrong in ("off", linux, [None]):
        with pytest.raises(TypeError, match=r"board_state 'linux': after=.* is not a board state"):
            board_state(after=wrong)(linux)  # type: ignore[arg-type]  # that is the mistake
    with pytest.raises(TypeError, match="after=kernel has params, and a transition on the way gets none; move them to"):
        board_state(after=board_state(params=["6.1", "6.6"], name="kernel")(linux))(linux)
    with pytest.raises(OptionError, match="'ever' is not a scope; choose from session"):
        board_state(scope="ever")
    with pytest.raises(OptionError, match="tries=0 is not a whole number from 1"):
        board_state(tries=0)
    with pytest.raises(TypeError, match="it can be decorated once"):
        board_state(board_state(linux))

"""`JumpstarterTest`: replaces the class of that name of `jumpstarter-testing`; a suite only changes the import."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pytest_jumpstarter.errors import SelectorError
from pytest_jumpstarter.fixtures import fixture_of, leased_device
from pytest_jumpstarter.roles import Wish
from pytest_jumpstarter.selector import Selector

if TYPE_CHECKING:
    from jumpstarter.client import DriverClient

    from pytest_jumpstarter.device import Device


class JumpstarterTest:
    """
    Base class of tests for one kind of board; the class attribute `selector` selects it.

    ::

        class TestPower(JumpstarterTest):
            selector = "board=rpi4"

            def test_cycle(self, client):
                client.power.cycle()

    The device is the `dut` of the class: options and ini values for that role override `selector`, and `console` is
    its console. A class without `selector` uses the `dut` of its conftest, or of the options.

    Raises:
        SelectorError: `selector` does not parse.
    """

    selector: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "selector" in vars(cls) and "dut" not in vars(cls):
            cls.dut = _device_of(cls.__name__, cls.selector)  # type: ignore[attr-defined]  # pytest finds it by name

    @pytest.fixture(scope="class")
    @classmethod
    def client(cls, dut: Device) -> DriverClient:
        """Return the root driver client of the device."""
        return dut.client


def _device_of(owner: str, selector: str) -> Callable[..., Device]:
    try:
        Selector.parse(selector)
    except SelectorError as exc:
        raise SelectorError(f"{owner}: {exc}") from None
    wish = Wish(selector=selector, scope="class", source=f"selector of {owner}")

    def dut(cls: type, request: pytest.FixtureRequest) -> Generator[Device, None, None]:  # noqa: ARG001
        """Yield the leased, connected device of this class."""
        yield from leased_device(request, wish)

    return fixture_of(classmethod(dut), wish)

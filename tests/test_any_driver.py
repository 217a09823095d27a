"""Clients of private driver packages: each is made where Jumpstarter makes it, or cannot tell the difference."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from anyio.from_thread import BlockingPortal
from drivers_with_habits import ERRORS, Loop, Parrot, Rack
from jumpstarter.client import DriverClient
from jumpstarter.client.base import StubDriverClient
from jumpstarter_driver_composite.client import CompositeClient
from jumpstarter_driver_composite.driver import Composite
from jumpstarter_driver_network.driver import EchoNetwork
from jumpstarter_driver_power.driver import MockPower
from standalone import served

from pytest_jumpstarter.device.drivers import Drivers, derives_from
from pytest_jumpstarter.jumpstarter_private import DriverInvalidArgument, serve


def composite(**children: Any) -> Any:
    """Return a driver that only holds these."""
    return cast(Any, Composite)(children=children)


def parrot() -> Any:
    """Return a driver that can fail."""
    return cast(Any, Parrot)()


def power() -> Any:
    """Return a power driver."""
    return cast(Any, MockPower)()


@pytest.fixture(scope="module")
def drivers() -> Iterator[Drivers]:
    """Serve drivers with habits, and return their clients."""
    gone = type("Gone", (Composite,), {"client": classmethod(lambda _: "nowhere_at_all.client.Gone")})
    board = composite(
        loop=Loop(),
        loop_in_async_test=Loop(),
        rack=Rack(children={"power": power(), "box": composite(gone=cast(Any, gone)(), power=power())}),
        power=power(),
        group=composite(power=power(), echo=cast(Any, EchoNetwork)()),
        gone=cast(Any, gone)(),
    )
    with served(board) as drivers:
        yield drivers


def test_a_constructor_finds_the_loop_of_the_portal(drivers: Drivers) -> None:
    """A client that asks for the running loop or its library gets what it gets from Jumpstarter."""
    client = drivers["loop"]
    assert client.library == "asyncio"
    assert client.is_in_loop_of_portal()


def test_a_constructor_does_not_find_the_loop_of_an_async_test(drivers: Drivers) -> None:
    """A driver that is first used in an async test is not made in the loop of that test."""

    async def first_use() -> Any:
        return drivers["loop_in_async_test"]

    assert asyncio.run(first_use()).is_in_loop_of_portal()


@pytest.fixture(scope="module")
def parrots() -> Iterator[tuple[Any, Any]]:
    """Return a client as this plugin makes it, and one as Jumpstarter does, of two drivers of a kind."""
    with served(composite(parrot=parrot())) as drivers, serve(composite(parrot=parrot())) as root:
        yield drivers["parrot"], root.children["parrot"]


WAYS: dict[str, Callable[[Any, str], Any]] = {
    "call": lambda parrot, kind: parrot.call("fail", kind),
    "call of a coroutine": lambda parrot, kind: parrot.call("fail_late", kind),
    "generator": lambda parrot, kind: list(parrot.streamingcall("count_and_fail", kind)),
    "in the portal": lambda parrot, kind: parrot.portal.call(parrot.call_async, "fail", kind),
}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_errors_of_drivers(parrots: tuple[Any, Any], way: Callable[[Any, str], Any], kind: str) -> None:
    """What a driver raises comes as the error, with the words and the cause, that it is with Jumpstarter alone."""
    found = []
    for parrot in parrots:
        with pytest.raises(Exception, match=r"the parrot") as caught:
            way(parrot, kind)
        cause: Any = caught.value.__cause__
        found.append((caught.type.__mro__, str(caught.value), type(cause), cause.code() if cause is not None else None))
    assert found[0] == found[1]


def test_numbers_before_an_error(parrots: tuple[Any, Any]) -> None:
    """What a generator yielded before it failed has arrived."""
    for parrot in parrots:
        stream = iter(parrot.streamingcall("count_and_fail", "ValueError"))
        assert [next(stream) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(DriverInvalidArgument):
            next(stream)


def test_a_client_that_adds_to_its_children(drivers: Drivers) -> None:
    """What it adds is there, also if it is no driver client."""
    rack = drivers["rack"]
    rack.children["outlet"].power.on()
    assert drivers["rack.power"] is rack.children["power"]


def test_a_client_makes_another_from_its_parts(drivers: Drivers) -> None:
    """Jumpstarter's classes check types: portal, children and missing drivers pass."""
    drivers["rack"].second_power().on()
    assert isinstance(drivers["rack"].portal, BlockingPortal)


def test_a_composite_made_from_the_parts_of_another(drivers: Drivers) -> None:
    """The children of a composite are real driver clients in a real `dict`."""
    group = drivers["group"]
    parts = {name: getattr(group, name) for name in ("uuid", "labels", "stub", "portal", "stack", "children")}
    again = CompositeClient(**parts)
    again.power.on()
    assert again.children["echo"] is group.echo


def test_children_are_a_dict() -> None:
    """All ways to read a `dict` show the clients; what a user adds stays."""
    with served(composite(b=power(), a=composite(power=power()))) as drivers:
        root: Any = drivers.root
        b = root.b
        assert type(root.children) is dict
        assert list(root.children) == ["b", "a"]
        assert root.children is root.children
        assert [*map(type, {**root.children}.values())] == [type(b), type(root.a)]
        assert (root.children | {"x": 1})["b"] is b is drivers["b"]
        root.children["c"] = b
        assert root.c is b
        del root.children["b"]
        assert not hasattr(root, "b")
        root.children = {"d": b}
        assert root.d is b


def test_a_missing_driver_is_jumpstarters_stub(drivers: Drivers) -> None:
    """Its use raises an ImportError, as with Jumpstarter; what is known of it can be read."""
    gone = drivers["gone"]
    assert isinstance(gone, StubDriverClient)
    assert gone.labels["jumpstarter.dev/name"] == "gone"
    assert gone.uuid
    for use in (lambda: gone.switch("on"), gone.open_stream, gone.stream):
        with pytest.raises(ImportError, match="driver 'gone' needs nowhere_at_all"):
            use()


def test_missing_drivers_are_told_apart() -> None:
    """Two drivers whose packages are missing are not equal, and can be keys."""
    gone = type("Gone", (Composite,), {"client": classmethod(lambda _: "nowhere_at_all.client.Gone")})
    with served(composite(a=cast(Any, gone)(), b=cast(Any, gone)())) as drivers:
        assert drivers["a"] == drivers["a"] != drivers["b"]
        assert len({drivers["a"], drivers["b"]}) == 2


def test_every_client_is_one_of_jumpstarters(drivers: Drivers) -> None:
    """Whatever takes a driver client takes each of them."""
    assert all(isinstance(client, DriverClient) for client in drivers.values())
    assert derives_from(drivers["group"], "jumpstarter_driver_composite.client")


def test_a_device_passes_for_its_root(suite: pytest.Pytester) -> None:
    """What checks that it gets a driver client takes `dut` too; a device that was released is a `Device` only."""
    suite.makeconftest(
        """
        import pytest
        from jumpstarter.client import DriverClient
        from pytest_jumpstarter import Device
        @pytest.fixture(scope="session")
        def kept():
            kept = []
            yield kept
            assert isinstance(kept[0], Device) and not isinstance(kept[0], DriverClient)
            print("ONLY A DEVICE")
        """
    )
    suite.makepyfile(
        """
        from jumpstarter.client import DriverClient
        from jumpstarter_driver_composite.client import CompositeClient
        from pydantic import ConfigDict
        from pydantic.dataclasses import dataclass
        from pytest_jumpstarter import Device

        @dataclass(config=ConfigDict(arbitrary_types_allowed=True))
        class Box:
            client: DriverClient

        def test_it(kept, dut):
            kept.append(dut)
            assert isinstance(dut, CompositeClient) and isinstance(dut, Device) and type(dut) is Device
            Box(client=dut).client.power.on()
        """
    )
    result = suite.runpytest("-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*ONLY A DEVICE*"])


NAMES = ["log", "fatal", "lines", "record", "release", "lose", "serial_ports", "offer", "call", "uuid"]


def test_names_of_drivers(suite: pytest.Pytester) -> None:
    """A driver may have any name that is no documented member of `Device`; of a method's name the error says where."""
    suite.makeini("[pytest]\njmp_selector = kind=dut\njmp_lab = own-lab.yaml\n")
    rows = "".join(
        f"  {name}: {{type: jumpstarter_driver_power.driver.MockPower}}\n" for name in [*NAMES, "env", "state"]
    )
    suite.path.joinpath("own-lab.yaml").write_text(f"metadata: {{name: own-1, labels: {{kind: dut}}}}\nexport:\n{rows}")
    suite.makepyfile(
        f"""
        import inspect, pytest

        def test_it(dut):
            for name in {NAMES}:
                getattr(dut, name).on()
            with pytest.raises(AttributeError) as caught:
                dut.env.on()
            with pytest.raises(AttributeError, match="the driver 'state' is dut.drivers\\\\['state'\\\\]"):
                dut.state.on()
            where = "the driver 'env' is dut.drivers['env']"
            assert str(caught.value) == f"dut.env is a method of the device; call it: dut.env(); {{where}}"
            with pytest.raises(AttributeError, match=r"call it: dut.console\\(\\)$"):
                dut.console.expect("x")
            assert not hasattr(dut.console, "pexpect")
            assert str(inspect.signature(dut.console)) == "(path: 'str | None' = None) -> 'Console'"
        """
    )
    suite.runpytest_subprocess().assert_outcomes(passed=1)

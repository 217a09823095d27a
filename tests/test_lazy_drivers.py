"""A driver client is built when it is first asked for: what a test does not touch is not imported."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from jumpstarter.client import DriverClient
from jumpstarter_driver_composite.driver import Composite
from jumpstarter_driver_network.driver import EchoNetwork
from jumpstarter_driver_power.driver import MockPower
from jumpstarter_protocol.jumpstarter.v1.jumpstarter_pb2 import DriverInstanceReport
from standalone import served, serving_drivers

from pytest_jumpstarter.device.driver_builder import BadDriverReport, _tree
from pytest_jumpstarter.device.drivers import Drivers
from pytest_jumpstarter.device.missing_driver import MissingDriver
from pytest_jumpstarter.errors import ConfigError, DriverMissing

LAB_FILE = """\
metadata: {name: own-1, labels: {kind: dut}}
export:
  power: {type: jumpstarter_driver_power.driver.MockPower}
  echo: {type: jumpstarter_driver_network.driver.EchoNetwork}
  broken: {type: lazy_drivers.Broken}
  rack: {children: {shelf: {children: {power: {ref: power}, echo: {ref: echo}}}}}
"""
DRIVERS = """
from jumpstarter.driver import Driver
class Broken(Driver):
    @classmethod
    def client(cls): return "lazy_clients.BrokenClient"
"""
NETWORK = "jumpstarter_driver_network"


@pytest.fixture
def own(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a folder whose runs serve a board of their own, with drivers that are heavy or broken."""
    suite.makeini("[pytest]\njmp_selector = kind=dut\njmp_lab = own-lab.yaml\n")
    suite.path.joinpath("own-lab.yaml").write_text(LAB_FILE)
    suite.makepyfile(lazy_drivers=DRIVERS, lazy_clients="import a_library_that_nobody_has\n")
    monkeypatch.setenv("PYTHONPATH", str(suite.path), prepend=":")
    suite.makeconftest(
        f"""
        import sys, pytest
        assert "{NETWORK}" not in sys.modules
        def imported(): return any(name.startswith("{NETWORK}") for name in sys.modules)
        def pytest_unconfigure(): print("IMPORTED", imported())
        @pytest.fixture(name="imported")
        def _imported(): return imported
        """
    )
    return suite


def test_nothing_is_imported_that_is_not_touched(own: pytest.Pytester) -> None:
    """The names of all drivers are known; to use one, to list them and to give the board back imports no other."""
    own.makepyfile(
        """
        def test_it(dut, imported):
            dut.power.on()
            dut.rack.shelf.power.off()
            assert list(dut.drivers) == [
                "power", "echo", "broken", "rack", "rack.shelf", "rack.shelf.power", "rack.shelf.echo"
            ]
            assert "echo" in dut.drivers and "echo" in dir(dut) and "echo" in repr(dut.client)
            assert "echo" in repr(dut)
            import sys
            assert not {"jumpstarter.exporter", "pydantic_settings"} & set(sys.modules)
            assert len(dut.drivers) == 7
            assert not imported()
        """
    )
    result = own.runpytest_subprocess("-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["IMPORTED False"])


def test_a_driver_is_the_same_wherever_it_is_looked_up(own: pytest.Pytester) -> None:
    """Attribute, dotted path and Jumpstarter's own `children` give one object, of Jumpstarter's class, which works."""
    own.makepyfile(
        """
        def test_it(dut, imported):
            assert dut.echo is dut.drivers["echo"] is dut.client.children["echo"] is dut.client.echo
            assert dut.rack.shelf.echo is dut.drivers["rack.shelf.echo"] is not dut.echo
            assert type(dut.echo).__name__ == "EchoNetworkClient" or imported()
            with dut.echo.stream() as stream:
                stream.send(b"back and forth")
                assert stream.receive() == b"back and forth"
        def test_command_line(dut):
            assert sorted(dut.client.children) == ["broken", "echo", "power", "rack"]
            assert "power" in dut.client.children["rack"].children["shelf"].cli().commands
            assert sorted(dut.client.cli().commands) == ["echo", "power", "rack"]
        """
    )
    own.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=2)


def test_a_console_imports_one_adapter(own: pytest.Pytester) -> None:
    """The client of a serial port is there when the device is; the adapters that it does not need are not imported."""
    port = "{type: jumpstarter_driver_pyserial.driver.PySerial, config: {url: 'loop://', check_present: false}}"
    own.path.joinpath("own-lab.yaml").write_text(f"{LAB_FILE}  serial: {port}\n")
    own.makepyfile(
        """
        import sys
        def test_it(dut):
            assert "jumpstarter_driver_pyserial.client" in sys.modules
            with dut.serial.pexpect() as port:
                port.sendline("uname")
                port.expect_exact("uname", timeout=10)
            console = dut.console()
            console.sendline("whoami")
            console.expect_exact("whoami")
            assert not {"fabric", "paramiko", "websockets"} & set(sys.modules)
            from jumpstarter_driver_network.adapters import FabricAdapter, TcpPortforwardAdapter
            assert "fabric" in sys.modules
        """
    )
    own.runpytest_subprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import a_library_that_nobody_has", "No module named 'a_library_that_nobody_has'"),
        ("from json import what_it_has_not", "ImportError: cannot import name 'what_it_has_not' from 'json' *"),
        ("import os; os.environ['NOT_SET_HERE']", "KeyError: 'NOT_SET_HERE'"),
        ("class AnotherClient: ...", "AttributeError: module 'lazy_clients' has no attribute 'BrokenClient'"),
    ],
    ids=["a library is missing", "a library is too old", "something is not set", "the class is missing"],
)
def test_a_client_that_cannot_be_imported(own: pytest.Pytester, source: str, reason: str) -> None:
    """The others work all the same; the error comes on first use, at the test's line, with the reason."""
    own.makepyfile(lazy_clients=source)
    own.makepyfile(
        """
        def test_it(dut):
            dut.power.on()
            broken = dut.broken
            broken.use()
        """
    )
    result = own.runpytest_subprocess("-k", "test_it")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "    broken.use()",
            "E*DriverMissing: driver 'broken' needs lazy_clients.BrokenClient, which cannot be imported: " + reason,
        ]
    )


def test_asked_for_too_late(own: pytest.Pytester) -> None:
    """A composite that is kept past the lease says what is wrong, and imports nothing."""
    own.makepyfile(
        """
        import pytest
        from pytest_jumpstarter.errors import DeviceReleased
        @pytest.fixture(scope="session")
        def kept():
            kept = []
            yield kept
            with pytest.raises(DeviceReleased, match="driver 'rack.shelf.echo' was first used after"):
                kept[0].echo.stream()
            print("ASKED TOO LATE")
        def test_it(kept, dut):
            kept.append(dut.rack.shelf)
        """
    )
    result = own.runpytest_subprocess("-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*ASKED TOO LATE", "IMPORTED False"])


class RackClient(DriverClient):
    """A client that wants those of its children from the start."""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # Jumpstarter's classes carry no types
        self.power = self.children["power"]


class Rack(Composite):
    """A driver with children, whose client is no plain composite."""

    @classmethod
    def client(cls) -> str:
        """Return the class above."""
        return f"{RackClient.__module__}.{RackClient.__qualname__}"


class Old(MockPower):
    """A driver whose client wants a library that is newer."""

    @classmethod
    def client(cls) -> str:
        """Return a class of a module that a test writes."""
        return "client_of_old.Old"


class SlowClient(DriverClient):
    """A client that takes its time to be made, and says when it is closed."""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # Jumpstarter's classes carry no types
        self.on_close: Callable[[], None] = lambda: None
        Slow.building.set()
        assert Slow.go_on.wait(30)

    def close(self) -> None:
        """Say so first."""
        self.on_close()
        super().close()  # type: ignore[no-untyped-call]  # Jumpstarter's classes carry no types


class Slow(Composite):
    """The driver of the slow client."""

    building, go_on = threading.Event(), threading.Event()

    @classmethod
    def client(cls) -> str:
        """Return the class above."""
        return f"{SlowClient.__module__}.{SlowClient.__qualname__}"


class WantsLoopClient(DriverClient):
    """A client that can be made in a loop only."""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # Jumpstarter's classes carry no types
        Slow.building.set()
        assert Slow.go_on.wait(30)
        asyncio.get_running_loop()


class FailsOftenClient(DriverClient):
    """A client that cannot be made, and counts how often that was tried."""

    failures = 0

    def __post_init__(self) -> None:
        type(self).failures += 1
        raise RuntimeError(f"firmware {self.failures} is too old")


class RenamingClient(DriverClient):
    """A client that has its children by names of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # Jumpstarter's classes carry no types
        self.children = {"supply": self.children["power"]}


def driver_of(class_path: str) -> Any:
    """Return a driver class with a client of the class named."""
    return type("Driver", (Composite,), {"client": classmethod(lambda _: class_path)})


WantsLoop, FailsOften, Renaming = (
    driver_of(f"{each.__module__}.{each.__qualname__}") for each in (WantsLoopClient, FailsOftenClient, RenamingClient)
)
Nowhere = driver_of("nowhere_at_all.client.NowhereClient")


@pytest.fixture(autouse=True)
def _not_slow() -> None:
    Slow.go_on.set()


def rack() -> Any:
    """Return a rack with a power driver."""
    return cast(Any, Rack)(children={"power": cast(Any, MockPower)()})


def test_a_root_that_is_no_composite() -> None:
    """It is built with all below it, as Jumpstarter does."""
    with served(rack()) as drivers:
        seen: list[str] = []
        drivers.watch_built(lambda path, _: seen.append(path))
        assert seen == list(drivers) == ["power"]
        root = cast(Any, drivers.root)
        assert root.power is drivers["power"]
        root.power.on()


def test_a_driver_with_children_that_is_no_composite() -> None:
    """It is built with all below it when it, or one of them, is first looked up."""
    with served(cast(Any, Composite)(children={"rack": rack(), "spare": rack()})) as drivers:
        seen: list[str] = []
        drivers.watch_built(lambda path, _: seen.append(path))
        assert seen == []
        drivers["rack.power"].on()
        assert seen == ["rack", "rack.power"]
        assert drivers["rack"].power is drivers["rack.power"]


def test_the_child_that_is_at_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a driver cannot be built for the sake of one below it, the error names that one."""
    tmp_path.joinpath("client_of_old.py").write_text("from json import what_it_has_not")
    monkeypatch.syspath_prepend(tmp_path)
    old = cast(Any, Old)()
    with served(cast(Any, Composite)(children={"rack": cast(Any, Rack)(children={"power": old})})) as drivers:
        for _ in range(2):
            with pytest.raises(
                DriverMissing, match=r"^driver 'rack.power' needs client_of_old.Old, .*'what_it_has_not'"
            ):
                drivers["rack"].use()
        with pytest.raises(DriverMissing, match=r"^driver 'rack.power' needs"):
            drivers["rack.power"].on()


def look_up_in_the_loop_meanwhile(drivers: Drivers, slow: str) -> None:
    """Look `rack.power` up in the loop while a thread has the slow one built, and see that both come to an end."""

    async def look() -> Any:
        return drivers["rack.power"]

    Slow.building.clear()
    Slow.go_on.clear()
    thread = threading.Thread(target=lambda: drivers[slow])
    thread.start()
    assert Slow.building.wait(30)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(cast(Any, drivers.root).portal.call, look)
        Slow.go_on.set()
        assert found.result(30) is drivers["rack.power"]
    thread.join(30)
    assert slow in drivers.built


def test_looked_up_in_the_loop() -> None:
    """What a driver client does in the loop may be the first to look another up, while a thread has one built."""
    with served(cast(Any, Composite)(children={"rack": rack(), "slow": cast(Any, Slow)()})) as drivers:
        look_up_in_the_loop_meanwhile(drivers, "slow")


def test_a_client_that_waits_while_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is built in the loop."""
    from jumpstarter.client import client as theirs

    build = theirs.client_from_channel

    async def build_slowly(*args: Any) -> Any:
        await asyncio.sleep(0.01)
        return await build(*args)

    monkeypatch.setattr(theirs, "client_from_channel", build_slowly)
    with served(cast(Any, Composite)(children={"rack": rack()})) as drivers:
        drivers["rack.power"].on()


def test_a_client_that_wants_the_loop_while_the_loop_waits() -> None:
    """It is built in the loop, which waits meanwhile for the lookup of another: neither waits for good."""
    with served(cast(Any, Composite)(children={"rack": rack(), "wants": cast(Any, WantsLoop)()})) as drivers:
        look_up_in_the_loop_meanwhile(drivers, "wants")
        assert type(drivers["wants"]) is WantsLoopClient


def test_a_constructor_that_fails() -> None:
    """It is called once for a lookup, and what it raises is the reason; another lookup tries again."""
    with served(cast(Any, Composite)(children={"old": FailsOften(), "power": cast(Any, MockPower)()})) as drivers:
        FailsOftenClient.failures = 0
        for number in (1, 2):
            with pytest.raises(DriverMissing, match=f"'old': .* fails: RuntimeError: firmware {number} is too old"):
                drivers["old"].use()
        drivers["power"].on()


def test_a_client_that_changes_its_children() -> None:
    """What the exporter reports below it and it does not have is missing; the rest of the board works."""
    renaming = cast(Any, Renaming)(children={"power": cast(Any, MockPower)()})
    with served(cast(Any, Composite)(children={"renaming": renaming})) as drivers:
        drivers["renaming"].children["supply"].on()
        with pytest.raises(DriverMissing, match=r"'renaming\.power' is not among the children"):
            drivers["renaming.power"].on()


def test_a_driver_below_one_that_is_missing() -> None:
    """Where it stands twice, the place where it can be built is the one that counts, however long its name."""
    power, other, third = (cast(Any, MockPower)() for _ in range(3))
    spare = cast(Any, Nowhere)(children={"p": power, "q": other})
    gone = cast(Any, Nowhere)(children={"p": third})
    module = "jumpstarter_driver_power.client"
    with served(cast(Any, Composite)(children={"main_power": power, "a": spare, "b": gone})) as drivers:
        assert drivers.reported(module) == ["main_power", "a.p", "a.q", "b.p"]
        assert drivers.usable(drivers.reported(module)) == ["main_power"]
        assert drivers.usable(["a.q", "b.p"]) == ["a.q"]
        with pytest.raises(DriverMissing, match="driver 'a' needs nowhere_at_all"):
            drivers["a.q"].on()


def test_only_what_is_built_is_closed() -> None:
    """Closing a composite, or dropping it, builds nothing; what was built is closed before its streams are."""
    told: list[str] = []
    box = cast(Any, Composite)(children={"slow": cast(Any, Slow)(), "power": cast(Any, MockPower)()})
    with served(cast(Any, Composite)(children={"box": box, "other": cast(Any, Slow)()})) as drivers:
        drivers["box"].close()
        assert list(drivers.built) == ["box"]
        slow = drivers["box.slow"]
        slow.on_close = lambda: told.append("client")
        slow.stack.callback(told.append, "streams")
        gc.collect()
    assert told == ["client", "streams"]
    assert list(drivers.built) == ["box", "box.slow"]


def test_an_error_of_a_missing_driver_carries_no_history() -> None:
    """It is raised anew each time: what an earlier test did with it is not in the traceback."""
    missing, depths = MissingDriver(ConfigError("no")), []
    for _ in range(3):
        with pytest.raises(ConfigError) as caught:
            missing.use()
        depths.append(len(caught.traceback))
    assert depths == [2, 2, 2]


def test_in_a_shell(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drivers of a shell's exporter wait until they are asked for too."""
    pytester.makepyfile(
        f"""
        import sys
        def test_it(dut):
            dut.power.on()
            assert "echo" in dut.drivers
            assert "{NETWORK}" not in sys.modules
            with dut.echo.stream(): ...
            assert "{NETWORK}" in sys.modules
        """
    )
    board = cast(Any, Composite)(children={"power": cast(Any, MockPower)(), "echo": cast(Any, EchoNetwork)()})
    with serving_drivers(board) as path:
        monkeypatch.setenv("JUMPSTARTER_HOST", path)
        monkeypatch.setenv("JMP_DRIVERS_ALLOW", "UNSAFE")
        pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_two_threads_get_the_same_client() -> None:
    """Who asks while another builds waits for it, and the constructor runs once."""
    with served(cast(Any, Composite)(children={"slow": cast(Any, Slow)()})) as drivers:
        Slow.building.clear()
        Slow.go_on.clear()
        got: list[object] = []
        threads = [threading.Thread(target=lambda: got.append(drivers["slow"])) for _ in range(2)]
        threads[0].start()
        assert Slow.building.wait(30)
        Slow.building.clear()
        threads[1].start()
        Slow.go_on.set()
        for thread in threads:
            thread.join(30)
        assert got == [drivers["slow"]] * 2
        assert not Slow.building.is_set()


def report(uuid: str, parent: str, name: str) -> DriverInstanceReport:
    """Return what an exporter reports of a driver; the UUIDs are made of letters."""
    return DriverInstanceReport(uuid=made(uuid), parent_uuid=made(parent), labels={"jumpstarter.dev/name": name})


def made(letter: str) -> str:
    """Return a UUID; what is longer than a letter is returned unchanged."""
    return str(UUID(int=ord(letter))) if len(letter) == 1 else letter


def test_tree_of_reports() -> None:
    """What stands below a driver that stands twice belongs to the place that was reported before it."""
    root = _tree(
        [
            report("r", "", "main"),
            report("a", "r", "a"),
            report("b", "a", "b"),
            report("a", "r", "c"),
            report("b", "a", "b"),
        ]
    )
    assert [(path, place.parent, place.name, place.uuid) for path, place in root.places()] == [
        ("a", "", "a", made("a")),
        ("a.b", "a", "b", made("b")),
        ("c", "", "c", made("a")),
        ("c.b", "c", "b", made("b")),
    ]
    assert [each.report.uuid for each in root.children["c"].walk()] == [made("a"), made("b")]


@pytest.mark.parametrize(
    ("reports", "words"),
    [
        ([], "it reports no drivers"),
        ([report("r", "", ""), report("x", "?", "lost")], "it reports driver 'lost' without its parent before it"),
        ([report("no-uuid", "", "")], "it reports driver '' with 'no-uuid', which is no UUID"),
        ([report("r", "", ""), report("", "r", "x")], "it reports driver 'x' with '', which is no UUID"),
        ([report("r", "", ""), report("x", "r", "")], r"it reports a driver without a name \(uuid "),
        (
            [report("a", "", ""), *(report(chr(97 + n), chr(96 + n), "below") for n in range(1, 5000))],
            "it reports drivers that are nested more than 100 deep",
        ),
    ],
    ids=["nothing", "an orphan", "no uuid", "no uuid below", "no name", "5,000 levels"],
)
def test_reports_that_are_no_tree(reports: list[DriverInstanceReport], words: str) -> None:
    """An exporter that reports nonsense is told from one that is away."""
    with pytest.raises(BadDriverReport, match=words):
        _tree(reports)

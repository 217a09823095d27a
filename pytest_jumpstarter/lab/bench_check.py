"""`python -m pytest_jumpstarter.lab --check FILE`: open the ports of a bench, and switch its power once."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

from pytest_jumpstarter.errors import LabError
from pytest_jumpstarter.lab.documents import Document, read_documents
from pytest_jumpstarter.lab.ports import device_files, holders, objection
from pytest_jumpstarter.lab.power_drivers import is_mock

_OFF_TIME = 1.0
_FIRST_OUTPUT = 10.0
_SILENCE = 1.5
_ENOUGH_BYTES = 4096


def main(arguments: Sequence[str]) -> int:
    """Check a lab file; return the exit code: 0, 1 if something fails, 2 for a broken file, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m pytest_jumpstarter.lab --check",
        description="Open the ports of the boards in a lab file, and switch their power off and on once",
    )
    parser.add_argument("file", type=Path, help="Lab file")
    parser.add_argument("--yes", action="store_true", help="Switch the power without asking")
    options = parser.parse_args(arguments)
    return check_bench(options.file, may_switch=options.yes)


def check_bench(file: Path, *, may_switch: bool) -> int:
    """
    Check the boards in a lab file; print what works and what does not.

    Args:
        file: The lab file.
        may_switch: Whether the power may be switched without asking.
    """
    try:
        documents = [document for document in read_documents([file]) if not document.is_external]
        checks = [BenchCheck(document, may_switch=may_switch) for document in documents]
        are_good = [check.run() for check in checks]
    except LabError as error:
        print(f"lab --check: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print("\nlab --check: interrupted; the power is as the last line says", file=sys.stderr, flush=True)
        return 130
    if not all(are_good):
        print(f"\nMend what has a ✗, then: python -m pytest_jumpstarter.lab --check {file}", flush=True)
        return 1
    for document in documents:
        selector = ",".join(f"{key}={value}" for key, value in document.labels.items())
        print(f"\nUse it: pytest --jmp-lab={file} --jmp-selector {selector}", flush=True)
    return 0


class BenchCheck:
    """
    Checks one board in the order in which things break.

    Args:
        document: The board in the lab file.
        may_switch: Whether the power may be switched without asking.
    """

    def __init__(self, document: Document, *, may_switch: bool) -> None:
        self._document = document
        self._may_switch = may_switch
        self._is_good = True

    def run(self) -> bool:
        """Return whether everything that was tried works."""
        print(f"\n{self._document.name}", flush=True)
        for check in (self._packages, self._ports, self._drivers):
            check()
            if not self._is_good:
                break
        return self._is_good

    def _tell(self, mark: str, text: str) -> None:
        self._is_good = self._is_good and mark != "✗"
        print(f"  {mark} {text}", flush=True)

    def _packages(self) -> None:
        from pytest_jumpstarter.lab.exporter import DriverUnusable, import_drivers

        try:
            import_drivers(self._document.drivers)
        except DriverUnusable as error:
            self._tell("✗", str(error))
            return
        self._tell("✓", f"drivers are installed: {', '.join(self._document.drivers)}")

    def _ports(self) -> None:
        for path in dict.fromkeys(device_files(self._document.config["export"])):
            by = ", ".join(holders(path))
            if why := objection(path):
                self._tell("✗", why)
            elif by:
                self._tell("✗", f"{path} is in use by {by}; close it there, because both would get parts of the output")
            else:
                self._tell("✓", f"{path} may be opened, and no other program has it open")

    def _drivers(self) -> None:
        from jumpstarter_driver_composite.driver import Composite

        from pytest_jumpstarter.jumpstarter_private import ExporterConfigV1Alpha1, serve
        from pytest_jumpstarter.lab.driver_errors import explain, ignored_options

        config = ExporterConfigV1Alpha1.model_validate(dict(self._document.config))
        try:
            children = {name: child.instantiate() for name, child in config.export.items()}
        except Exception as error:  # a driver may raise anything
            self._tell("✗", explain(error, config.export))
            return
        self._tell("✓", "drivers start")
        for text in ignored_options(config.export):
            self._tell("✗", text)
        with cast("AbstractContextManager[Any]", serve(cast(Any, Composite)(children=children))) as root:
            self._try(root.children)

    def _try(self, clients: Mapping[str, Any]) -> None:
        console = next((client for client in clients.values() if hasattr(type(client), "pexpect")), None)
        power = clients.get("power")
        if power is None:
            self._tell("?", "there is no driver named power: switch the board by hand")
        elif is_mock(self._document.drivers.get("power", "")):
            self._tell("?", "power is a MOCK: nothing is switched")
        elif not (self._may_switch or _is_wanted()):
            self._tell("?", "the power was not switched, and the console not read")
        elif console is None:
            self._switch(power)
        else:
            with console.pexpect() as session:
                if self._switch(power):
                    self._listen(session)

    def _switch(self, power: Any) -> bool:
        """Switch the power off and on; return whether this works."""
        for name in ("off", "on"):
            try:
                code = getattr(power, name)()
            except Exception as error:  # a driver may raise anything
                self._tell("✗", f"power.{name}() fails: {' '.join(str(error).split()) or type(error).__name__}")
                return False
            if isinstance(code, int | float) and code:  # of a shell driver, which raises nothing
                self._tell("✗", f"power.{name}(): its command ended with exit code {code:g}")
                return False
            self._tell("✓", f"power.{name}()")
            if name == "off":
                time.sleep(_OFF_TIME)
        return True

    def _listen(self, session: Any) -> None:
        """Show what the board says after it was switched on."""
        data = b"".join(_output(session.read_nonblocking))
        lines = [line.strip() for line in data.decode(errors="replace").splitlines() if line.strip()]
        if not data:
            self._tell(
                "?", f"the board said nothing within {_FIRST_OUTPUT:g} s; check that it boots, the baud rate, that"
            )
            print("    RX and TX are crossed, and that the grounds are connected", flush=True)
        elif sum(32 <= byte < 127 or byte in b"\r\n\t\x1b" for byte in data) < 0.8 * len(data):
            self._tell("✗", f"the board sent {len(data)} bytes that are not text; the baud rate is probably wrong")
        else:
            self._tell("✓", f"the board sent {len(data)} bytes, beginning with: {_printable(lines)}")


def _printable(lines: Sequence[str]) -> str:
    return "".join(char for char in (lines or [""])[0] if char.isprintable())[:60]


def _output(read: Callable[[int, float], bytes | str]) -> Iterator[bytes]:
    """Yield what a console says, until it is silent or has said enough."""
    import pexpect

    size, timeout = 0, _FIRST_OUTPUT
    while size < _ENOUGH_BYTES:
        try:
            data = read(1024, timeout)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return
        yield (piece := data.encode() if isinstance(data, str) else data)
        size, timeout = size + len(piece), _SILENCE


def _is_wanted() -> bool:
    print("  Switch the power of this board off and on now? [y/N] ", end="", flush=True)
    answer = sys.stdin.readline()
    if not answer:
        print("\n    no answer, because standard input has ended; --yes switches without asking", flush=True)
    elif not sys.stdin.isatty():
        print(answer.strip(), flush=True)  # nobody has typed it here
    return answer.strip().lower() in ("y", "yes")

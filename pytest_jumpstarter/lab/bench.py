"""
`python -m pytest_jumpstarter.lab --init`: write a lab file for a board on this machine, and try it.

What no argument says is asked. The file names what is real and what is a mock, and no file is ever overwritten.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pytest_jumpstarter.errors import LabError
from pytest_jumpstarter.lab.documents import is_object_name
from pytest_jumpstarter.lab.ports import SerialPort, holders, objection, serial_ports
from pytest_jumpstarter.lab.power_drivers import POWER_DRIVERS, PowerDriver
from pytest_jumpstarter.selector import is_label_key, is_label_value

_PYSERIAL = "jumpstarter_driver_pyserial.driver.PySerial"
_T = TypeVar("_T")


def main(arguments: Sequence[str]) -> int:
    """Write the lab file; return the exit code: 0, 1 if the check failed, 2 for a wrong answer, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        _refuse_to_overwrite(options.file)
        document = Interview(options).document()
        with options.file.open("x", encoding="utf-8") as file:
            file.write(document)
    except (LabError, OSError) as error:
        return _end(f"lab --init: {error}; nothing was written", 2)
    except KeyboardInterrupt:
        return _end("\nlab --init: interrupted; nothing was written", 130)
    print(f"\n{options.file} is written.", flush=True)
    if options.no_check:
        return 0
    from pytest_jumpstarter.lab.bench_check import check_bench

    return check_bench(options.file, may_switch=options.check)


def _end(text: str, code: int) -> int:
    print(text, file=sys.stderr, flush=True)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pytest_jumpstarter.lab --init",
        description="Write a lab file for a board on this machine, and try it. What no option says is asked.",
        epilog=f"Power: {'; '.join(f'{name}: {driver.what}' for name, driver in POWER_DRIVERS.items())}",
    )
    parser.add_argument("file", nargs="?", type=Path, default=Path("lab.yaml"), help="File to write (lab.yaml)")
    parser.add_argument("--name", metavar="NAME", help="Name of the exporter (board-1)")
    parser.add_argument("--label", metavar="KEY=VALUE", action="append", help="Label to select it by (repeatable)")
    parser.add_argument("--serial", metavar="PORT", help="Serial port of the console; none if there is none")
    parser.add_argument("--baudrate", metavar="N", help="Baud rate of the console (115200)")
    parser.add_argument("--power", choices=POWER_DRIVERS, help="What switches the power")
    parser.add_argument(
        "--power-option", metavar="NAME=VALUE", action="append", default=[], help="Option of its driver (repeatable)"
    )
    parser.add_argument("--power-on", metavar="COMMAND", help="For --power shell: switch on")
    parser.add_argument("--power-off", metavar="COMMAND", help="For --power shell: switch off")
    checks = parser.add_mutually_exclusive_group()
    checks.add_argument("--check", action="store_true", help="Open the port and switch the power without asking")
    checks.add_argument("--no-check", action="store_true", help="Only write the file")
    return parser


def _refuse_to_overwrite(file: Path) -> None:
    if file.exists():
        raise LabError(f"{file} exists, and is not overwritten; name another file, or move it away")
    if not file.absolute().parent.is_dir():
        raise LabError(f"there is no folder {file.absolute().parent}")


class Interview:
    """
    Asks what no option says; on a terminal a wrong answer is asked again.

    Args:
        options: The options of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options

    def document(self) -> str:
        """
        Return the lab file.

        Raises:
            LabError: An answer makes no sense, or there is none.
        """
        port = self._port()
        baudrate = self._ask("--baudrate", "Baud rate of the console", "115200", _number) if port else 0
        power = self._power()
        config = self._power_config(power) if power.type else {}
        if port is None and not power.type:
            raise LabError("a board without a console and without a power switch leaves nothing to test")
        name = self._name()
        labels = self._labels(name)
        drivers = [*_power_lines(power, config), *(_serial_lines(port, baudrate) if port else [])]
        head = yaml.safe_dump({"name": name, "labels": labels}, sort_keys=False).splitlines()
        about = _HEAD.format(
            file=self._options.file, selector=",".join(f"{key}={value}" for key, value in labels.items())
        )
        return "\n".join([about, *(f"  {line}" for line in head), "export:", *drivers, ""])

    def _port(self) -> SerialPort | None:
        ports = serial_ports()
        if self._options.serial is None:
            print("Serial ports of this machine:" if ports else _NO_PORTS, flush=True)
            for number, port in enumerate(ports, 1):
                print(f"  {number}  {port.path}  {port.description}{_state(port.path)}", flush=True)
        return self._ask(
            "--serial",
            "Serial port of the console (number, path, or none)",
            "1" if len(ports) == 1 and ports[0].by_id else "",
            lambda _, answer: _chosen_port(answer, ports),
        )

    def _power(self) -> PowerDriver:
        if self._options.power is None:
            print("\nWhat switches the power of the board?", flush=True)
            for name, driver in POWER_DRIVERS.items():
                print(f"  {name:9} {driver.what}", flush=True)
        return self._ask("--power", "Power", "", _power_driver)

    def _power_config(self, power: PowerDriver) -> dict[str, Any]:
        given = dict(_pair("--power-option", each) for each in self._options.power_option)
        for name, command in (("on", self._options.power_on), ("off", self._options.power_off)):
            if command is not None:
                given[f"methods.{name}"] = command
        config: dict[str, Any] = dict(power.options)
        for name, question in power.questions.items():
            option, read = f"--power-option {name}", _text if name.startswith("methods.") else _yaml_value
            value = read(option, given.pop(name)) if name in given else self._ask(option, question, "", read)
            _put(config, name, value)
        for name, text in given.items():
            _put(config, name, _yaml_value(f"--power-option {name}", text))
        if "methods" in config:
            on, off = config["methods"]["on"], config["methods"]["off"]
            config["methods"].setdefault("cycle", f"{off} && sleep 2 && {on}")
        return config

    def _name(self) -> str:
        return self._ask("--name", "Name of the exporter", "board-1", _exporter_name)

    def _labels(self, name: str) -> dict[str, str]:
        given = self._options.label
        if given:
            return dict(_label("--label", each) for each in given)
        return dict([self._ask("--label", "Label to select it by", f"board={name}", _label)])

    def _ask(self, option: str, question: str, default: str, read: Callable[[str, str], _T]) -> _T:
        """Return what `read` makes of the option, or of the answer to the question; an empty answer is the default."""
        given = getattr(self._options, option.removeprefix("--").replace("-", "_"), None)
        if isinstance(given, str):
            return read(option, given)
        question = question[:1].upper() + question[1:]
        while True:
            answer = self._answer(option, question, default)
            try:
                if not answer:
                    raise LabError(f"{question.lower()!r} has no answer; give {option}")
                return read(option, answer)
            except LabError as error:
                if not sys.stdin.isatty():
                    raise
                print(f"  {error}", flush=True)

    def _answer(self, option: str, question: str, default: str) -> str:
        print(f"{question}{f' [{default}]' if default else ''}: ", end="", flush=True)
        line = sys.stdin.readline()
        if not sys.stdin.isatty():
            print(line.strip(), flush=True)  # nobody has typed it here
        if not line:
            raise LabError(f"standard input ended before {question.lower()!r} was answered; give {option}")
        return line.strip() or default


_NO_PORTS = (
    "No serial port was found on this machine. Check that the board is plugged in (`sudo dmesg` says what the\n"
    "kernel saw). A container sees a port only if it was started with it (`--device /dev/ttyUSB0`)."
)
_HEAD = """\
# A board on this machine, written by `python -m pytest_jumpstarter.lab --init`.
#   try it:  python -m pytest_jumpstarter.lab --check {file}
#   use it:  pytest --jmp-lab={file} --jmp-selector {selector}
# All drivers and their options: https://jumpstarter.dev/main/reference/package-apis/drivers/
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata:"""


def _state(path: str) -> str:
    """Return what prevents the use of a port, for a list of ports."""
    if why := objection(path):
        return f"\n       {why}"
    by = holders(path)
    return f"\n       in use by {', '.join(by)}" if by else ""


def _chosen_port(answer: str, ports: Sequence[SerialPort]) -> SerialPort | None:
    if answer == "none":
        return None
    if answer.isdecimal() and 1 <= int(answer) <= len(ports):
        return ports[int(answer) - 1]
    known = [port for port in ports if answer in (port.device, port.by_id)]
    if known:
        return known[0]
    if "://" not in answer and not Path(answer).exists():
        raise LabError(f"--serial: {objection(answer)}")
    path = answer if "://" in answer else str(Path(answer).absolute())
    return SerialPort(device=path, by_id="", description="")


def _power_driver(option: str, answer: str) -> PowerDriver:
    if answer not in POWER_DRIVERS:
        raise LabError(f"{option}: there is no {answer!r}; choose one of {', '.join(POWER_DRIVERS)}")
    return POWER_DRIVERS[answer]


def _exporter_name(option: str, answer: str) -> str:
    if not is_object_name(answer):
        raise LabError(f"{option} {answer!r}: an exporter's name is lower-case letters, digits and '-'")
    return answer


def _label(option: str, answer: str) -> tuple[str, str]:
    key, value = _pair(option, answer)
    if not is_label_key(key) or not is_label_value(value):
        raise LabError(f"{option} {key}={value}: a label is KEY=VALUE of letters, digits, '-', '_' and '.'")
    return key, value


def _number(option: str, answer: str) -> int:
    if not answer.isdecimal():
        raise LabError(f"{option}: {answer!r} is no number")
    return int(answer)


def _text(_: str, answer: str) -> str:
    return answer


def _yaml_value(option: str, answer: str) -> Any:
    try:
        return yaml.safe_load(answer)
    except yaml.YAMLError:
        raise LabError(f"{option}: {answer!r} is not a value in YAML; write it in quotes") from None


def _pair(option: str, text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise LabError(f"{option} {text!r}: write NAME=VALUE")
    return name, value


def _put(config: dict[str, Any], name: str, value: object) -> None:
    """Put a value under a dotted name."""
    *above, last = name.split(".")
    for key in above:
        config = config.setdefault(key, {})
    config[last] = value


def _power_lines(power: PowerDriver, config: Mapping[str, Any]) -> list[str]:
    if not power.type:
        return ["  # No power driver: somebody switches the board by hand, so no test can power it on or off."]
    lines = ["  # A MOCK: on and off do nothing, so every test sees the board as it is."] if power.is_mock else []
    if importlib.util.find_spec(power.type.partition(".")[0]) is None:
        lines.append(f"  # Install its driver first: pip install {power.package}")
    if "methods" in config:
        lines += [
            "  # Each method is a command; the call returns its exit code: `assert dut.power.on() == 0`.",
        ]
    return [*lines, *_driver_lines("power", power.type, config)]


def _serial_lines(port: SerialPort, baudrate: int) -> list[str]:
    about = f"  # {port.description}, now {port.device}" if port.by_id else f"  # {port.description}".rstrip(" #")
    return [
        *([about] if about.strip() else []),
        *_driver_lines("serial", _PYSERIAL, {"url": port.path, "baudrate": baudrate}),
    ]


def _driver_lines(name: str, type_: str, config: Mapping[str, Any]) -> list[str]:
    driver: dict[str, Any] = {"type": type_} | ({"config": dict(config)} if config else {})
    text = yaml.safe_dump({name: driver}, sort_keys=False, width=1000)
    return [f"  {line}" for line in text.splitlines()]

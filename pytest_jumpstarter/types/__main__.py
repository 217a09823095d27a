"""`python -m pytest_jumpstarter.types FILE-OR-SELECTOR -o boards.py`: write the classes of typed boards."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pytest_jumpstarter.durations import parse_duration
from pytest_jumpstarter.errors import ConfigError, JumpstarterError
from pytest_jumpstarter.host.grpc_import import import_grpc
from pytest_jumpstarter.masking import safe


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the classes; return the exit code: 0; 2 with one line on standard error; 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        text, names = _written(options)
        if options.output is None:
            print(text, end="")
        else:
            options.output.write_text(text)
            _say(f"{options.output}: {', '.join(names)}")
    except (JumpstarterError, OSError) as exc:
        _say(" ".join(str(exc).split()))
        return 2
    except KeyboardInterrupt:  # the lease is released
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pytest_jumpstarter.types",
        description="Write classes that declare the drivers of boards, for type checkers and editors.",
    )
    parser.add_argument(
        "what",
        metavar="FILE-OR-SELECTOR",
        help="a lab file or a folder of them: a class for each kind of exporter in it; or a label selector such as "
        "board=rpi4: a class for one exporter that matches, which is leased for a moment",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="the file to write (default: standard output)"
    )
    parser.add_argument("--name", type=_name, help="the name of the class, if there is only one")
    parser.add_argument("--client", metavar="ALIAS-OR-FILE", help="client config to use instead of the current client")
    parser.add_argument(
        "--wait", metavar="DURATION", type=parse_duration, default=1800.0, help="longest wait in the queue (30m)"
    )
    return parser


def _name(text: str) -> str:
    if not text.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a class")
    return text


def _written(options: argparse.Namespace) -> tuple[str, list[str]]:
    """Return the text of the module, and the names of the classes in it."""
    import_grpc()
    from pytest_jumpstarter.types.class_writer import ClassWriter
    from pytest_jumpstarter.types.exporter_trees import ExporterTree, trees

    kinds: dict[tuple[tuple[str, str], ...], list[ExporterTree]] = {}
    with closing(trees(options.what, client=options.client, wait=options.wait, say=_say)) as found:
        for tree in found:
            drivers = tuple((path, place.class_path) for path, place in tree.places.items())
            kinds.setdefault(drivers, []).append(tree)
    if not kinds:
        raise ConfigError(f"{options.what} has no exporter that runs")
    if options.name and len(kinds) > 1:
        firsts = ", ".join(each[0].exporter for each in kinds.values())
        raise ConfigError(f"--name {options.name}: there are {len(kinds)} kinds of exporters, such as {firsts}")
    writer = ClassWriter()
    names = [writer.add(exporters, options.name or "") for exporters in kinds.values()]
    return writer.text(), names


def _say(line: str) -> None:
    print(f"types: {safe(line)}", file=sys.stderr, flush=True)


def _exit(number: int, _: object) -> None:
    """End the program in order, so that its lease is released; a second signal ends it at once."""
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


if __name__ == "__main__":
    for _number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(_number) is signal.SIG_DFL:  # `nohup` ignores one
            signal.signal(_number, _exit)
    sys.exit(main())

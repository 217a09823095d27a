"""
Reports of a run that ends before its session begins: an option or a value is wrong, or a conftest cannot be imported.

The reports of an earlier run, perhaps of a green one, would stay otherwise. An error that pytest finds before it loads
plugins, such as a wrong value of an option of its own, is not seen here.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import traceback
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

_NAME = "report"  # of the option
_REFUSED = 4
_INTERNAL_ERROR = 3


class NoSession:
    """
    Replaces each report of `--jmp-report` when pytest gives up, unless a session has begun.

    Args:
        config: The config; its options may not have been parsed.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._has_session = False
        self._error: BaseException | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_cmdline_main(self) -> Generator[None, object, object]:
        """Note the error that ends the run."""
        try:
            return (yield)
        except BaseException as exc:
            self._error = exc
            raise

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note an error of a plugin: pytest handles it."""
        self._error = excinfo.value

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Note that a session begins, which writes its reports itself."""
        self._has_session = True

    def end(self) -> None:
        """Replace the reports, if the run ends by an error without a session."""
        error = self._error or sys.exc_info()[1]
        if error is None or self._has_session or hasattr(self._config, "workerinput"):
            return
        for path in self._paths():
            with suppress(Exception):  # pytest shows the error itself
                _write(path, error, self._config)

    def _paths(self) -> Iterator[Path]:
        """Yield the files of reports, as far as the command line, or else the ini file, names them."""
        from pytest_jumpstarter.options import OPTIONS
        from pytest_jumpstarter.settings import spellings

        (option,) = (each for each in OPTIONS if each.name == _NAME)
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument(option.flag, action="append", dest=option.ini)
        with suppress(SystemExit, ValueError):
            args = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
            parser.parse_known_args([*args, *map(str, self._config.invocation_params.args)], self._config.option)
        found = list(spellings(option, self._config, os.environ))
        for text, source in found:
            if source == found[0][1]:
                with suppress(ValueError):
                    yield self._config.invocation_params.dir / option.parse(text)


def _write(path: Path, error: BaseException, config: pytest.Config) -> None:
    from pytest_jumpstarter.evidence.versions import versions
    from pytest_jumpstarter.leasing.origin import Origin
    from pytest_jumpstarter.masking import learn_environment
    from pytest_jumpstarter.report.exit_codes import EXIT_CODES
    from pytest_jumpstarter.report.files import write_report
    from pytest_jumpstarter.report.run_data import EndData
    from pytest_jumpstarter.report.run_end import NOT_ENDED, new_problem
    from pytest_jumpstarter.report.run_record import RunRecord

    learn_environment(os.environ)
    code, kind, text = _told(error)
    meaning = next((row.meaning for row in EXIT_CODES if row.code == code), NOT_ENDED)
    end: EndData = {
        "exit_code": code,
        "meaning": meaning,
        "ended_by": "",
        "interrupted": [],
        "never_began": [],
        "problems": [new_problem(kind, "", text, reason=_reason_of_argparse(text))],
    }
    origin = Origin.of(os.environ, config.rootpath)
    write_report(path, RunRecord().as_data(end, versions=versions(), origin=origin._asdict()))


def _told(error: BaseException) -> tuple[int | None, str, str]:
    """Return the exit code, the kind of the problem and its text; no code if the error ends Python."""
    if isinstance(error, pytest.UsageError):
        return _REFUSED, "usage error", str(error)
    cause = getattr(error, "cause", None)  # of `ConftestImportFailure`
    if isinstance(cause, BaseException):
        return _REFUSED, "collection error", "".join(traceback.format_exception(cause))
    text = "".join(traceback.format_exception(error))
    return _INTERNAL_ERROR if isinstance(error, Exception) else None, "internal error", text


def _reason_of_argparse(text: str) -> str:
    """Return the error below the usage that argparse shows first; empty if there is none."""
    return next((line.partition(": error: ")[2] for line in text.splitlines() if ": error: " in line), "")


def watch_start(config: pytest.Config) -> None:
    """Replace the reports of a run that ends before its session begins; options are not parsed yet."""
    watch = NoSession(config)
    config.pluginmanager.register(watch, "jumpstarter-no-session")
    config.add_cleanup(watch.end)

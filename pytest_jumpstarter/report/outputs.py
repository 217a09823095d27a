"""What the process that prints will write: asked for before the run begins, so that what cannot be is refused then."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_jumpstarter.report.files import ReportFiles, check_writable
from pytest_jumpstarter.report.shown import BOOKKEEPER

if TYPE_CHECKING:
    from pytest_jumpstarter.settings import Settings


def register_outputs(config: pytest.Config, settings: Settings) -> None:
    """
    Let files be written, if anything is to run; add to the page of pytest-html, where one is asked for.

    Raises:
        OptionError: A file or folder cannot be written.
    """
    paths = [(setting.value, setting.source) for setting in settings.all("report")]
    runs_nothing = config.getoption("collectonly", default=False) or config.getoption("jmp_check")
    if paths and not runs_nothing:
        config.stash[BOOKKEEPER] = files = ReportFiles(config, paths)
        config.pluginmanager.register(files, "jumpstarter-files")
    page = config.getoption("htmlpath", default=None)
    if page and config.pluginmanager.hasplugin("html"):
        from pytest_jumpstarter.report.html_columns import HtmlColumns

        config.pluginmanager.register(HtmlColumns(Path(page).absolute()), "jumpstarter-html")
    if (folder := settings.find("artifacts")) is not None:
        path = Path(config.invocation_params.dir, folder.value)
        check_writable(path / f".writable-{os.getpid()}", folder.source, path)

"""Run pytest with this plugin and those of the named packages only: `run_beside.py PACKAGE,… ARGUMENT…`."""

from __future__ import annotations

import importlib.metadata
import os
import sys

import pytest

packages = [*sys.argv[1].split(","), "pytest-jumpstarter"]
points = [point for name in packages for point in importlib.metadata.distribution(name).entry_points]
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
loaded = [part for point in points if point.group == "pytest11" for part in ("-p", point.name)]
sys.exit(pytest.main([*loaded, *sys.argv[2:]]))

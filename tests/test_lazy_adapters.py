"""Jumpstarter's adapters are imported one by one, and otherwise are what they always were."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import pytest

from pytest_jumpstarter.device import lazy_adapters as tested
from pytest_jumpstarter.device.lazy_adapters import LazyPackage, lazy_adapters


def in_a_process(source: str) -> None:
    """Run Python code in a process of its own."""
    subprocess.run([sys.executable, "-c", textwrap.dedent(source)], check=True, timeout=120)


def test_all_that_the_package_has() -> None:
    """Names, modules, `dir`, `import *` and errors are those of the package."""
    in_a_process(
        """
        import sys
        from pytest_jumpstarter.device.lazy_adapters import lazy_adapters
        with lazy_adapters(), lazy_adapters():
            import jumpstarter_driver_network.adapters as lazy
        assert "fabric" not in sys.modules
        names, found = set(lazy.__all__), {name: getattr(lazy, name) for name in lazy.__all__}
        assert names <= set(dir(lazy)) and "pexpect" in dir(lazy)
        assert lazy.pexpect is sys.modules[lazy.__name__ + ".pexpect"]
        assert getattr(lazy, "NoSuchAdapter", None) is None
        star = {}
        exec("from jumpstarter_driver_network.adapters import *", star)
        assert {name: star[name] for name in names} == found
        import importlib, jumpstarter_driver_network
        assert jumpstarter_driver_network.adapters is lazy
        real = importlib.reload(lazy)
        assert set(real.__all__) == names
        """
    )


def test_only_what_is_asked_for() -> None:
    """One name imports one module of the package, and what that needs."""
    in_a_process(
        """
        import sys
        from pytest_jumpstarter.device.lazy_adapters import lazy_adapters
        with lazy_adapters():
            from jumpstarter_driver_network.adapters import PexpectAdapter
        ours = {name for name in sys.modules if name.startswith("jumpstarter_driver_network.adapters.")}
        assert ours == {"jumpstarter_driver_network.adapters." + name for name in ("pexpect", "portforward")}, ours
        """
    )


def test_already_imported() -> None:
    """A package that somebody has imported stays as it is."""
    in_a_process(
        """
        import jumpstarter_driver_network.adapters as real
        from types import ModuleType
        from pytest_jumpstarter.device.lazy_adapters import lazy_adapters
        with lazy_adapters():
            import jumpstarter_driver_network.adapters as same
        assert same is real and type(same) is ModuleType
        """
    )


@pytest.mark.parametrize(
    ("source", "is_lazy"),
    [
        ('"""Adapters."""\nfrom .one import a, b\nfrom .two import c\n__all__ = ["a", "b", "c"]\n', True),
        ("from .one import a as c\n", False),
        ("from .one import *\n", False),
        ("from .one import a\nprint(a)\n", False),
        ("import os\nfrom .one import a\n", False),
    ],
)
def test_packages_of_later_releases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, is_lazy: bool
) -> None:
    """A package that does anything else than import its own modules is imported as always."""
    (tmp_path / "later" / "adapters").mkdir(parents=True)
    (tmp_path / "later" / "__init__.py").touch()
    (tmp_path / "later" / "adapters" / "__init__.py").write_text(source)
    (tmp_path / "later" / "adapters" / "one.py").write_text("a, b = 1, 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tested, "PACKAGE", "later.adapters")
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    finders = list(sys.meta_path)
    with lazy_adapters():
        found = import_module("later.adapters")
    assert isinstance(found, LazyPackage) == is_lazy
    assert sys.meta_path == finders
    assert found.__spec__ is not None
    assert found.__spec__.loader is found.__loader__
    if is_lazy:
        assert (found.a, found.b) == (1, 2)
        with pytest.raises(ModuleNotFoundError, match=r"later\.adapters\.two"):
            _ = found.c


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, the import fails as always."""
    monkeypatch.setattr(tested, "PACKAGE", "pytest_jumpstarter.no_such_package")
    with lazy_adapters(), pytest.raises(ModuleNotFoundError, match=r"No module named .*no_such_package"):
        import_module("pytest_jumpstarter.no_such_package")

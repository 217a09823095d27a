"""Driver classes that an exporter process cannot import."""

from __future__ import annotations

import pytest

from pytest_jumpstarter.lab.exporter import DriverUnusable, import_drivers


@pytest.mark.parametrize(
    ("type_", "words"),
    [
        (
            "jumpstarter_driver_teleport.driver.Teleporter",
            "module jumpstarter_driver_teleport is not installed; pip install jumpstarter-driver-teleport",
        ),
        (
            "jumpstarter_driver_powr.driver.MockPower",
            "module jumpstarter_driver_powr is not installed; did you mean jumpstarter_driver_power?",
        ),
        (
            "jumpstarter_driver_taosmota.driver.TasmotaPower",  # of `--init`, and not installed itself
            "module jumpstarter_driver_taosmota is not installed; did you mean jumpstarter_driver_tasmota? "
            "pip install jumpstarter-driver-tasmota",
        ),
        (
            "jumpstarter_driver_tasmota.driver.TasmotaPower",  # no misspelling of itself
            "module jumpstarter_driver_tasmota is not installed; pip install jumpstarter-driver-tasmota",
        ),
        (
            "jumpstarter_driver_htpp.driver.Http",  # neither is one of http_power
            "module jumpstarter_driver_htpp is not installed; pip install jumpstarter-driver-htpp",
        ),
        ("nonesuch.Driver", "module nonesuch is not installed; pip install nonesuch"),
        ("jumpstarter_driver_power.nope.Power", "there is no module jumpstarter_driver_power.nope"),
        ("jumpstarter_driver_power.driver.Nope", "module jumpstarter_driver_power.driver has no Nope"),
        (
            "jumpstarter_driver_power.driver.MockPowr",
            "module jumpstarter_driver_power.driver has no MockPowr; did you mean MockPower?",
        ),
        (
            "drivers_that_do_not_import.Driver",
            "importing drivers_that_do_not_import raises ZeroDivisionError: no relay",
        ),
        ("drivers_that_need_more.Driver", "module nonesuch_tool is not installed; pip install nonesuch_tool"),
    ],
)
def test_unusable(
    type_: str, words: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver class that cannot be imported is named, with what to install."""
    folder = tmp_path_factory.mktemp("drivers")
    (folder / "drivers_that_do_not_import.py").write_text("raise ZeroDivisionError('no relay')")
    (folder / "drivers_that_need_more.py").write_text("import nonesuch_tool")
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(DriverUnusable) as caught:
        import_drivers({"power": "jumpstarter_driver_power.driver.MockPower", "rack.tool": type_})
    assert str(caught.value) == f"driver 'rack.tool' ({type_}): {words}"


def test_usable() -> None:
    """Classes that can be imported are."""
    import_drivers(
        {"board": "pytest_jumpstarter.lab.board.VirtualBoard", "power": "jumpstarter_driver_power.driver.MockPower"}
    )

"""A lab controller that does as it is told, and a client for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trustme

from pytest_jumpstarter.client.v1 import Client

from .controller import TOKEN, Controller, serve


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the environment of whoever runs the tests out of them."""
    import os

    for name in list(os.environ):
        if name.upper().startswith(("JMP_", "JUMPSTARTER_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Sign the certificates of the tests."""
    return trustme.CA()


@pytest.fixture
def controller(authority: trustme.CA) -> Iterator[Controller]:
    """Run a lab controller that answers as the test says."""
    with serve(authority) as controller:
        yield controller


@pytest.fixture
def client(controller: Controller) -> Iterator[Client]:
    """Return client `ci` of namespace `lab`."""
    with Client(controller.endpoint, token=TOKEN, namespace="lab", name="ci", ca=controller.ca, timeout=10) as client:
        yield client

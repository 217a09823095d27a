"""What inner suites do to their own boards: each of the losses, and a break that heals. They import it as `harm`."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.lab.faults import order

LAB = "TRUTH_LAB"
"""The environment variable with the config of a client of the lab."""

FOLDER = "TRUTH_FOLDER"
"""The environment variable with the folder through which the lab takes orders."""

OTHER = "other"
"""The lab's second client."""

_TIMEOUT = 20.0
_lost: set[str] = set()


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds, for some seconds."""
    deadline = time.monotonic() + _TIMEOUT
    while not holds():
        if time.monotonic() > deadline:
            raise SystemError("the harm did not take effect")
        time.sleep(0.02)


def lose(device: Any) -> None:
    """Delete the lease of a device as somebody else does; it is over a moment later."""
    with _client() as client:
        client.delete_lease(device.lease.name)


def touch(device: Any) -> NoReturn:
    """Call a device until the call fails."""
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        device.power.on()
    raise SystemError("the board is still there")


def lose_in_a_call(device: Any) -> NoReturn:
    """Lose the lease, and meet the loss in a driver call."""
    lose(device)
    touch(device)


def lose_once(device: Any) -> None:
    """Lose the lease the first time that a test runs, and use the board the second time."""
    _once(device, lose_in_a_call)


def kill_once(device: Any) -> None:
    """End the exporter's process the first time that a test runs, and use the board the second time."""
    _once(device, kill_in_a_call)


def transfer_once(device: Any) -> None:
    """Give the lease to somebody else the first time that a test runs, and use the board the second time."""
    _once(device, transfer_away)


def _once(device: Any, harm: Callable[[Any], object]) -> None:
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
    if test not in _lost:
        _lost.add(test)
        harm(device)
    device.power.on()


def lose_to_somebody(device: Any) -> NoReturn:
    """Lose the lease to another client, who has waited for this board and keeps it, and meet the loss in a call."""
    with _client(OTHER) as client:
        name = f"other-{secrets.token_hex(4)}"
        client.create_lease(lease_id=name, exporter_name=device.exporter.name, duration=120)
        lose(device)
        until(lambda: client.get_lease(name).is_ready)  # else a new lease of ours may be first
    touch(device)


def sleep_through(device: Any) -> None:
    """Lose the lease, and sleep longer than the watch's interval with `--jmp-ttl=6s`, touching nothing."""
    lose(device)
    time.sleep(1.5)


def block(device: Any) -> None:
    """Lose the lease, and wait for much longer than it takes to notice."""
    lose(device)
    time.sleep(30)


def kill_in_a_call(device: Any) -> None:
    """End the exporter's process in the middle of a driver call."""
    device.counter.call("die")


def transfer_away(device: Any) -> NoReturn:
    """Give the lease to another client, for whom it lasts a moment, and call the device until that fails."""
    with _client() as client:
        client.update_lease(device.lease.name, duration=3, client=OTHER)
    touch(device)


def broken_call(device: Any) -> Exception:
    """Break the connection under a driver call, and return the error that this call raises; the next one works."""
    name = secrets.token_hex(4)
    cutter = threading.Thread(target=_cut_during, args=[name])
    cutter.start()
    try:
        device.counter.call("count", name, 1.0)
    except Exception as exc:
        return exc
    finally:
        cutter.join()
    raise SystemError("the call outlived the connection")


def heal(device: Any) -> None:
    """Call a device until a call works again."""

    def works() -> bool:
        try:
            device.power.on()
        except Exception:
            return False
        return True

    until(works)


def cut() -> None:
    """Break every connection through the router."""
    until(lambda: int(order(Path(os.environ[FOLDER]), "cut")) > 0)


def _cut_during(name: str) -> None:
    calls = Path(os.environ[FOLDER], "calls")
    until(lambda: calls.exists() and name in calls.read_text().split())
    cut()


def _client(name: str = "default") -> Client:
    return Client.from_config(Path(os.environ[LAB]).with_name(f"{name}.yaml"))

"""What a process cannot do beside a device, which would hang: the run is refused, in one sentence."""

from __future__ import annotations

import sys


def reason_against_devices(*, is_forked: bool) -> str:
    """
    Return why tests with devices cannot run in this process; empty if they can.

    Args:
        is_forked: Whether pytest-forked runs one of them in a child process.
    """
    if is_forked:
        return (
            "pytest-forked (--forked, @pytest.mark.forked) runs a test with a device in a child process, which ends "
            "without releasing it: run tests with devices without it; to isolate them, use pytest-xdist (-n)"
        )
    for library, module, function in (
        ("gevent", "gevent.monkey", "is_module_patched"),
        ("eventlet", "eventlet.patcher", "is_monkey_patched"),
    ):
        is_patched = getattr(sys.modules.get(module), function, None)
        found = [name for name in ("threading", "thread", "socket", "select") if is_patched and is_patched(name)]
        if found:
            return (
                f"{library} has patched {', '.join(found)}, but a device needs real threads and sockets: do not patch "
                "in the process that runs tests with devices"
            )
    return ""

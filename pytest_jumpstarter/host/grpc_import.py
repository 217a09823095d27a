"""
The environment variables that gRPC reads when it is imported: no notices on stderr, and no handlers of forks.

gRPC's handlers, which are on by default, start its threads again in a forked child. Beside a device in use, a third of
all children then die before they reach their `exec` or their own code: of `pexpect.spawn`, `subprocess` with
`preexec_fn`, `multiprocessing` and `os.fork`. Without the handlers, a child cannot use gRPC itself, and all else works.
A value that the user has set stays. Where another plugin has imported gRPC before, it reads the variables again, which
comes in time if it has not been used yet. `GRPC_VERBOSITY` has the value that Jumpstarter's own package sets for good
in each process that imports it; here it is only set sooner. (gRPC 1.85 writes no notices by default, older ones do.)
"""

from __future__ import annotations

import os
import sys

from pytest_jumpstarter.host import grpc_private, real_time
from pytest_jumpstarter.host.grpc_threads import read_where_waiting

FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"
_VERBOSITY = "GRPC_VERBOSITY"
_MARK = "PYTEST_JUMPSTARTER_FORK_SUPPORT"  # workers of xdist inherit it: the other variable is ours
_OFF = ("0", "false", "no", "n", "f")


class _Import:
    """What is known of the import of gRPC in this process."""

    is_prepared = False
    is_ours_to_clear = False
    is_before_ours = False
    has_handlers = False


def before_grpc() -> None:
    """Set the variables; call this as early as it is known that devices are used."""
    os.environ.setdefault(_VERBOSITY, "ERROR")
    if not _Import.is_prepared:
        _Import.is_prepared = True
        if FORK_SUPPORT not in os.environ or _MARK in os.environ:
            _Import.is_ours_to_clear = True
            _Import.is_before_ours = FORK_SUPPORT not in os.environ and "grpc" in sys.modules
            os.environ[FORK_SUPPORT] = os.environ[_MARK] = "0"
            _Import.has_handlers = _Import.is_before_ours and not grpc_private.read_variables_again()


def import_grpc() -> None:
    """
    Import gRPC, with the clock of the machine, by which it computes deadlines, whatever clock a test replaces.

    Then forget the variable for forks, because programs that tests start would inherit it.
    """
    before_grpc()
    with read_where_waiting():
        import grpc.aio

    grpc_private.import_channels()
    for name in [name for name in sys.modules if name == "grpc" or name.startswith("grpc.")]:
        if getattr(module := sys.modules[name], "time", None) is real_time.MODULE:
            module.time = real_time  # type: ignore[attr-defined]  # they use time.time() and time.sleep()
    if _Import.is_ours_to_clear:
        _Import.is_ours_to_clear = False
        if _Import.is_before_ours and not _Import.has_handlers:
            grpc.insecure_channel("127.0.0.1:9").close()  # it takes over the variables now; nothing is connected
        for variable in (FORK_SUPPORT, _MARK):
            os.environ.pop(variable, None)


def has_fork_handlers() -> bool:
    """Return whether gRPC handles forks: somebody else used it before `before_grpc`, or the user wants it so."""
    given = os.environ.get(FORK_SUPPORT)
    return _Import.has_handlers if given is None else given.lower() not in _OFF

"""
The embedded lab: a lab controller, a router and real exporters on this machine, over loopback only.

It is a second, independent reading of the protocol: it imports nothing of `client`, `leasing` or `device`, and
whatever Jumpstarter's own clients and exporters do with a production controller works on it with the same codes
and texts. `Lab` starts it from Python, `python -m pytest_jumpstarter.lab` from a shell.

The lab process::

    lab.py             Lab: start the lab process, wait until it is ready, end it
    __main__.py        the command line of the lab process
    process.py         the life of the lab process: start all parts in order, stop them in order
    documents.py       lab files, as people write them
    configdir.py       the client and exporter configs that it writes for others
    temporary.py       the folder for what must not stay
    authority.py       certificates and tokens
    model.py           what the lab knows: exporters, clients, leases, conditions
    selection.py       which exporter a lease gets, and what is said when it gets none
    scheduler.py       the life of leases: assign, end, expire
    access.py          who is calling, and whether they may
    requests.py        what may be asked for
    refusal.py         errors that are answers
    wire.py            the model's things as protobuf messages
    client_service.py  jumpstarter.client.v1.ClientService
    controller_service.py  jumpstarter.v1.ControllerService
    router.py          jumpstarter.v1.RouterService
    server.py          one gRPC server for the three
    supervisor.py      the exporter processes: start, watch, start again, end

For tests of what goes wrong, and never on the way of a normal run::

    faults.py          a lab that fails on demand: the table of orders, expired tokens, a clock that is off
    weather.py         calls that are refused, delayed or never answered, for some time or some number of calls
    breakable.py       streams that can be broken from outside
    snapshot.py        what such a lab knows again after it was killed

An exporter process (one per exporter)::

    exporter.py        run one of Jumpstarter's exporters, with its name on its command line
    board.py           the virtual board: a driver with power, console and storage
    machine.py         what happens inside the virtual board
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_jumpstarter.lab.lab import Lab

__all__ = ["Lab"]


def __getattr__(name: str) -> Any:
    """Import `Lab` on first use, so that an exporter process need not."""
    if name == "Lab":
        from pytest_jumpstarter.lab.lab import Lab

        return Lab
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

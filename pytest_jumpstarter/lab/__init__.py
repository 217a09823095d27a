"""
The embedded lab: a lab controller, a router and real exporters on this machine, over loopback only.

It is a second, independent implementation of the protocol, which imports nothing of `client`, `leasing` or `device`.
Whatever Jumpstarter's own clients and exporters do with a production controller works with it too, with the same status
codes and texts. `Lab` starts it from Python, `python -m pytest_jumpstarter.lab` from a shell.

The lab process::

    lab.py             `Lab`: start the lab process, wait until it is ready, stop it
    __main__.py        the command line of the lab process
    process.py         start all parts of the lab process in order, and stop them in reverse order
    documents.py       read lab files
    configdir.py       write the client and exporter configs
    temporary.py       the folder for temporary files
    authority.py       certificates and tokens
    model.py           the state: exporters, clients, leases and their conditions
    selection.py       which exporter a lease gets, or why it gets none
    scheduler.py       the life of leases: assign, release, expire
    access.py          authentication and authorization of callers
    requests.py        check the tags, times and names in requests
    selectors.py       the selectors in requests
    kubernetes.py      what Kubernetes says about names and labels
    refusal.py         errors that become gRPC statuses
    wire.py            the state as protobuf messages
    client_service.py  jumpstarter.client.v1.ClientService
    controller_service.py  jumpstarter.v1.ControllerService
    router.py          jumpstarter.v1.RouterService
    server.py          one gRPC server for the three
    supervisor.py      the exporter processes: start, watch, restart, stop

To set up a bench::

    bench.py           write a lab file for a board on this machine (`--init`)
    bench_check.py     open the ports of a lab file, and switch the power once (`--check`)
    power_drivers.py   the drivers that can switch power, and what they need to know

For tests of failures only::

    faults.py          a lab that fails on demand: its orders, a wrong clock
    expiring.py        tokens that expire on demand, and those of an identity provider
    weather.py         calls that are refused, delayed or never answered, for some time or some number of calls
    breakable.py       streams that can be broken from outside

An exporter process (one per exporter)::

    exporter.py        run one of Jumpstarter's exporters; its name is on its command line
    driver_errors.py   what a driver raises when the exporter starts, in plain words
    ports.py           the serial ports of this machine, who may open them and who has them open
    board.py           the virtual board: a driver with power, console and storage
    machine.py         the simulation of the virtual board
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_jumpstarter.lab.lab import Lab

__all__ = ["Lab"]


def __getattr__(name: str) -> object:
    """Import `Lab` on first use, so that an exporter process does not import it."""
    if name == "Lab":
        from pytest_jumpstarter.lab.lab import Lab

        return Lab
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

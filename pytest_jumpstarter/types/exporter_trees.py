"""Leases exporters, and reads which drivers each serves."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from pytest_jumpstarter.device.drivers import DriverPlace
from pytest_jumpstarter.errors import LabError
from pytest_jumpstarter.leasing.events import Events
from pytest_jumpstarter.leasing.lease_request import LeaseIds, Terms, Wanted
from pytest_jumpstarter.masking import learn_environment
from pytest_jumpstarter.selector import Selector

LAB_SUFFIXES = (".yaml", ".yml")


class ExporterTree(NamedTuple):
    """The drivers of one exporter, by their dotted paths, as it reports them."""

    exporter: str
    places: Mapping[str, DriverPlace]


class _Listener(Events):
    """Shows what happens during a wait."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say

    def on_failure(self, failure: str) -> None:
        """Show a lease that was not released."""
        self.say(failure)


def trees(
    file_or_selector: str, *, client: str | None, wait: float, say: Callable[[str], None]
) -> Generator[ExporterTree, None, None]:
    """
    Yield the drivers of each exporter in a lab file, or of one exporter that matches a selector.

    Args:
        file_or_selector: A lab file or a folder of them, whose lab is started for this; or a label selector.
        client: Client config for a selector; None for the current client.
        wait: The longest time in seconds to wait for a lease.
        say: Shows a line.

    Raises:
        JumpstarterError: The lab, the client config, a lease or a connection fails.
    """
    learn_environment(os.environ)
    with ExitStack() as stack:
        if not Path(file_or_selector).exists():
            if Path(file_or_selector).suffix in LAB_SUFFIXES:
                raise LabError(f"there is no lab file {file_or_selector}")
            Selector.parse(file_or_selector)
            wanted = [Wanted(role="dut", selector=file_or_selector, wait=wait, source="the command line")]
            yield from _leased(wanted, client, os.environ, say, stack)
            return
        from pytest_jumpstarter.client.v1 import Client
        from pytest_jumpstarter.lab import Lab

        lab = stack.enter_context(Lab([file_or_selector]))
        with Client.from_config(lab.client_config) as listing:
            exporters = sorted(listing.list_exporters(), key=lambda each: each.name)
        for each in exporters:
            if not each.online:
                say(f"exporter {each.name} is left out: the lab does not run it itself")
        wanted = [Wanted(role="dut", exporter=each.name, wait=wait) for each in exporters if each.online]
        yield from _leased(wanted, str(lab.client_config), {}, say, stack)


def _leased(
    wanted: list[Wanted], client: str | None, environ: Mapping[str, str], say: Callable[[str], None], stack: ExitStack
) -> Iterator[ExporterTree]:
    """Lease and connect one after the other."""
    from pytest_jumpstarter.client.v1 import Client, ClientConfig
    from pytest_jumpstarter.client.v1.renewal import TokenRenewal
    from pytest_jumpstarter.leasing.from_controller import ControllerSource

    config = ClientConfig.load(client, environ=environ)
    connection, renewal = stack.enter_context(Client.from_config(config)), TokenRenewal(config)
    connection.renew = lambda: renewal.renew(connection.token)
    events, ids = _Listener(say), LeaseIds(worker="types")
    source = ControllerSource(connection, config, events=events, ids=ids, terms=Terms(), healths={})
    stack.callback(source.close)
    for each in wanted:
        with source.device(each) as device:
            yield ExporterTree(device.exporter.name, dict(device.drivers.places))

"""
A client for `jumpstarter.client.v1.ClientService`, usable without pytest.

::

    with Client.from_config() as client:
        for exporter in client.list_exporters(filter="board=rpi4"):
            print(exporter.name, exporter.status)

`config` finds the client config, `tls` and `connection` are the way to the lab controller, `service` reads what the
service offers from its descriptors, `request` (with `build` and `rules`) checks a call before it leaves, `response`
(with `failures`) says what came back, `facts` are leases and exporters in Python's types, `creation` makes sure of
one lease, `client` has a typed method for each call.
"""

from pytest_jumpstarter.client.v1.client import Client
from pytest_jumpstarter.client.v1.config import ClientConfig
from pytest_jumpstarter.client.v1.facts import Condition, Exporter, Lease, RotatedToken, Route
from pytest_jumpstarter.client.v1.request import Request
from pytest_jumpstarter.client.v1.response import Response
from pytest_jumpstarter.client.v1.service import Field, Method, Methods
from pytest_jumpstarter.client.v1.tls import Proxy, Tls, channel_options

__all__ = [
    "Client",
    "ClientConfig",
    "Condition",
    "Exporter",
    "Field",
    "Lease",
    "Method",
    "Methods",
    "Proxy",
    "Request",
    "Response",
    "RotatedToken",
    "Route",
    "Tls",
    "channel_options",
]

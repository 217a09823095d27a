"""
A client for `jumpstarter.client.v1.ClientService`, usable without pytest.

::

    with Client.from_config() as client:
        for exporter in client.list_exporters(filter="board=rpi4"):
            print(exporter.name, exporter.status)

- `config` finds the client config; `config_table` reads its fields from file and environment.
- `renewal` replaces an expired token: `config_file` reads and writes the file, `oidc` asks the identity provider.
- `tls` and `controller_connection` connect to the lab controller. `token` reads what a token says; `secret` hides it.
- `service` reads what the service offers from its descriptors.
- `request` checks a call before it is sent: `build` makes its message, `rules` compares it with the service's rules.
  `transcoding` has its HTTP form.
- `response` is the answer to a call; `failures` maps its status to an error class.
- `facts` has leases and exporters as Python types.
- `lease_creation` creates a lease exactly once, even if the answer is lost and the lab names leases itself.
- `client` has a typed method for each call.
"""

from pytest_jumpstarter.client.v1.client import Client
from pytest_jumpstarter.client.v1.config import ClientConfig
from pytest_jumpstarter.client.v1.facts import Condition, Exporter, Lease, RotatedToken, Route
from pytest_jumpstarter.client.v1.request import Request
from pytest_jumpstarter.client.v1.response import Response
from pytest_jumpstarter.client.v1.service import Field, Method, Methods
from pytest_jumpstarter.client.v1.tls import Proxy, Tls, channel_options
from pytest_jumpstarter.client.v1.transcoding import HttpForm

__all__ = [
    "Client",
    "ClientConfig",
    "Condition",
    "Exporter",
    "Field",
    "HttpForm",
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

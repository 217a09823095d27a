"""
Every error that this package raises.

::

    JumpstarterError
    ├── ConfigError                   what was asked for cannot work; trying again will not help
    │   ├── OptionError               an option, ini value, marker or fixture argument is wrong
    │   ├── SelectorError             a label selector has a syntax error
    │   ├── ClientConfigError         the client config is missing, broken or incomplete
    │   │   └── ClientConfigMissing   there is no client config at all
    │   ├── LabError                  the lab file is broken, or the lab does not start
    │   ├── NoDeviceSource            a test asks for a device, but no source of devices is configured
    │   ├── DeviceMismatch            the board at hand is not the one that was asked for
    │   ├── DriverMissing             a driver client cannot be imported; its package may not be installed
    │   ├── DriverNotAllowed          the client config does not allow a driver client
    │   ├── ConsoleNotFound           the device has no such console
    │   ├── DeviceReleased            a device was used after it had been released
    │   └── LeaseUnsatisfiable        no exporter can ever serve the lease
    ├── DeviceError                   a device that should have been there was not
    │   ├── LeaseTimeout              the lease was still pending after the longest wait (also a TimeoutError)
    │   ├── LeaseLost                 the lease ended before it was released
    │   ├── ExporterOffline           the exporter went offline
    │   ├── HookFailed                the exporter's beforeLease hook failed
    │   └── DeviceUnreachable         the tunnel to the exporter cannot be opened, or broke
    ├── RequestInvalid                a request does not match the description of the service; it was not sent
    └── RequestError                  a request was sent and failed; has `.request`, `.response` and `.finality`
        ├── TransportError            there was no answer, or only that there is none at the moment
        │   ├── ControllerUnreachable the lab controller cannot be reached (also a ConnectionError)
        │   ├── RequestTimeout        there was no answer in time (also a TimeoutError)
        │   └── TemporaryFailure      the lab controller answered that it cannot do it at the moment
        └── StatusError               the lab controller answered with an error
            ├── MethodUnavailable     the lab controller, or the installed stubs, lack the method
            ├── AuthenticationError   the token is missing, malformed or of another client
            │   └── TokenExpired      the token has expired
            ├── PermissionDenied      the token is valid, but the object belongs to another client
            ├── NotFound              there is no such lease, exporter or client
            ├── AlreadyExists         the lease id is already used
            ├── AlreadyReleased       the lease was already released
            ├── InvalidArgument       the lab controller rejects the request as malformed
            └── NotReady              the exporter or lease is not in the state that the call needs

`ConsoleFatal` is not in the tree: it is an `AssertionError`, because the product failed, not the lab or the user.

The user must fix a *configuration error* (`ConfigError`, `RequestInvalid`, `AuthenticationError`,
`PermissionDenied`). A *device error* (`DeviceError`) is a failure of the lab.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import grpc


class Finality(Enum):
    """Whether the same request may be answered differently if it is sent again."""

    FINAL = "final"
    """It will not: the object does not exist, the lease has ended, or the request is wrong."""
    REFUSAL = "refusal"
    """A token or a permission was refused: it counts if a second attempt, a moment later, is refused too."""
    SETUP = "setup"
    """The address or the certificates are wrong: final, unless requests have been answered there before."""
    PASSING = "passing"
    """It will: something restarts, is busy or cannot be reached at the moment."""
    UNKNOWN = "unknown"
    """It is not known: no table has the text."""


class FailedRequest(Protocol):
    """A request that failed: a `pytest_jumpstarter.client.v1.Request`, which this module must not import."""

    method: str
    """Name of the RPC, such as `CreateLease`."""
    headers: Mapping[str, str | bytes]
    """Metadata that was sent along, without the token."""
    timeout: float | None
    """Seconds for the call; None if the client's own was used."""

    @property
    def http(self) -> tuple[str, str] | None:
        """Verb and path of the call in HTTP; None if it has no HTTP form."""


class FailedResponse(Protocol):
    """The answer to it: a `pytest_jumpstarter.client.v1.Response`, which this module must not import."""

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC status code."""

    @property
    def details(self) -> str:
        """The text of the status."""

    @property
    def elapsed(self) -> float:
        """Seconds from sending the request to its answer."""

    @property
    def leaves_open(self) -> bool:
        """Whether a write may have succeeded despite this answer."""

    @property
    def finality(self) -> Finality:
        """Whether the same request may be answered differently if it is sent again."""


class JumpstarterError(Exception):
    """Base class of all errors of this package."""


class ConfigError(JumpstarterError):
    """What was asked for cannot work; trying again will not help."""


class OptionError(ConfigError, ValueError):
    """An option, ini value, marker or fixture argument is wrong; the message says where it was set."""


class SelectorError(ConfigError, ValueError):
    """A label selector has a syntax error; the message says at which position."""


class ClientConfigError(ConfigError):
    """The client config is missing, broken or incomplete."""


class ClientConfigMissing(ClientConfigError):
    """There is no client config; the message says where it was looked for."""


class LabError(ConfigError):
    """The embedded lab cannot be started from its lab files."""


class NoDeviceSource(ConfigError):
    """A test asks for a device, but no source of devices is configured."""


class DeviceMismatch(ConfigError):
    """The board at hand is not the one that the fixture asked for."""


class DriverMissing(ConfigError):
    """A driver client cannot be imported; if its package is not installed, the message names it."""


class DriverNotAllowed(ConfigError):
    """The allow-list of the client config does not contain a driver client."""


class ConsoleNotFound(ConfigError):
    """The device has no such console; the message lists its drivers."""


class DeviceReleased(ConfigError):
    """A device was used after it had been released; do not keep it longer than the scope of its fixture."""


class LeaseUnsatisfiable(ConfigError):
    """No exporter can ever serve the lease; the message quotes the lab controller."""


class DeviceError(JumpstarterError):
    """
    A device that should have been there was not: the lab failed, not the product.

    Attributes:
        exporter: Name of the exporter; empty if none was assigned.
        lease: Name of the lease; empty if there was none.
    """

    exporter: str = ""
    lease: str = ""


class LeaseTimeout(DeviceError, TimeoutError):
    """The lease was still pending after the longest wait."""


class LeaseLost(DeviceError):
    """The lease ended before it was released."""


class ExporterOffline(DeviceError):
    """The exporter went offline."""


class HookFailed(DeviceError):
    """The exporter's beforeLease hook failed; the message quotes its output."""


class DeviceUnreachable(DeviceError):
    """The tunnel to the exporter cannot be opened, or broke."""


class RequestInvalid(JumpstarterError, ValueError):
    """A request does not match the description of the service; the message names the field."""


class RequestError(JumpstarterError):
    """
    A request was sent and failed.

    Attributes:
        request: The request as it was sent; it never contains the token.
        response: The answer; None if there was none.
    """

    def __init__(
        self, message: str, *, request: FailedRequest | None = None, response: FailedResponse | None = None
    ) -> None:
        super().__init__(message)
        self.request = request
        self.response = response

    @property
    def finality(self) -> Finality:
        """Whether the same request may be answered differently if it is sent again."""
        return self._unanswered if self.response is None else self.response.finality

    _unanswered = Finality.FINAL  # if there is no answer, nothing was sent: the stubs or the request are not suitable


class TransportError(RequestError):
    """There was no answer, or only that there is none at the moment."""

    _unanswered = Finality.PASSING


class ControllerUnreachable(TransportError, ConnectionError):
    """The lab controller cannot be reached; the message says at which address, and through which proxy if any."""


class RequestTimeout(TransportError, TimeoutError):
    """There was no answer in time."""


class TemporaryFailure(TransportError):
    """The lab controller cannot do it at the moment: it starts, or its Kubernetes or database does not answer."""


class StatusError(RequestError):
    """The lab controller answered with an error."""


class MethodUnavailable(StatusError):
    """The lab controller, or the installed stubs, lack the method."""


class AuthenticationError(StatusError):
    """The token is missing, malformed or of another client."""


class TokenExpired(AuthenticationError):
    """The token has expired."""


class PermissionDenied(StatusError):
    """The token is valid, but the object belongs to another client."""


class NotFound(StatusError):
    """There is no such lease, exporter or client."""


class AlreadyExists(StatusError):
    """The lease id is already used."""


class AlreadyReleased(StatusError):
    """The lease was already released."""


class InvalidArgument(StatusError):
    """The lab controller rejects the request as malformed."""


class NotReady(StatusError):
    """The exporter or lease is not in the state that the call needs."""


class ConsoleFatal(AssertionError):
    """The board printed a fatal message, such as a kernel panic, while a test waited for something else."""

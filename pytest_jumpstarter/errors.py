"""
Every error that this package raises.

::

    JumpstarterError
    ├── ConfigError                   what was asked for cannot work; trying again will not help
    │   ├── OptionError               an option, ini value, marker or fixture argument is wrong
    │   ├── SelectorError             a label selector does not parse
    │   ├── ClientConfigError         the client config is missing, broken or incomplete
    │   │   └── ClientConfigMissing   there is none at all
    │   ├── LabError                  the lab file is broken, or the lab does not start
    │   ├── NoDeviceSource            a test asks for a device and nothing says where it comes from
    │   ├── DeviceMismatch            the board at hand is not the one that was asked for
    │   ├── DriverMissing             the package of a driver client is not installed
    │   ├── DriverNotAllowed          the client config does not allow a driver client
    │   ├── ConsoleNotFound           the device has no such console
    │   ├── DeviceReleased            an old handle was used after its board went back
    │   └── LeaseUnsatisfiable        no exporter can ever serve the lease
    ├── DeviceError                   a device that should have been there was not
    │   ├── LeaseTimeout              still waiting after the longest wait (also a TimeoutError)
    │   ├── LeaseLost                 the lease ended before we released it
    │   ├── ExporterOffline           the exporter went away
    │   ├── HookFailed                the exporter's beforeLease hook failed
    │   └── DeviceUnreachable         the tunnel to the exporter cannot be opened, or broke
    ├── RequestInvalid                a request does not fit the service's own description
    └── RequestError                  a request left and failed; carries `.request` and `.response`
        ├── TransportError            no answer, or none that counts
        │   ├── ControllerUnreachable the lab controller cannot be reached (also a ConnectionError)
        │   ├── RequestTimeout        no answer in time (also a TimeoutError)
        │   └── TemporaryFailure      the lab controller answered that it cannot do it now
        └── StatusError               the lab controller answered with an error
            ├── MethodUnavailable     the server, or the installed stubs, lack the method
            ├── AuthenticationError   the token is missing, malformed or not for this client
            │   └── TokenExpired      the token was good once
            ├── PermissionDenied      the token is good, the thing is not ours
            ├── NotFound              no such lease, exporter or client
            ├── AlreadyExists         the lease id is taken
            ├── AlreadyReleased       the lease was released before
            ├── InvalidArgument       the server refuses the request as malformed
            └── NotReady              the exporter or lease is not in the state that the call needs

`ConsoleFatal` is none of these, but an `AssertionError`: the product failed, not lab or user.

A *configuration error* (`ConfigError`, `RequestInvalid`, `AuthenticationError`, `PermissionDenied`) is the
user's to mend; a *device error* (`DeviceError`) is the lab's.

Each `RequestError` tells in `.finality` whether it is worth asking again.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_jumpstarter.client.v1 import Request, Response


class Finality(Enum):
    """Tell whether the same request, asked again, may be answered otherwise."""

    FINAL = "final"
    """It will not: the thing is not there, the lease has ended, the request is wrong."""
    REFUSAL = "refusal"
    """A token or a permission was refused: it counts when a second look, a moment later, is refused too."""
    SETUP = "setup"
    """The way there is set up wrong, such as host name or certificate; final unless that way has worked before."""
    PASSING = "passing"
    """It will: something restarts, is busy or out of reach for the moment."""
    UNKNOWN = "unknown"
    """Nobody knows: the text is in no table of ours."""


class JumpstarterError(Exception):
    """Be the root of all errors of this package."""


class ConfigError(JumpstarterError):
    """Say that what was asked for cannot work, so that trying again will not help."""


class OptionError(ConfigError, ValueError):
    """Name an option, ini value, marker or fixture argument that is wrong, and where it came from."""


class SelectorError(ConfigError, ValueError):
    """Name a label selector that does not parse, and the place where it stops making sense."""


class ClientConfigError(ConfigError):
    """Say why the client config cannot be used: missing, broken or incomplete."""


class ClientConfigMissing(ClientConfigError):
    """Say that there is no client config at all, and where it was looked for."""


class LabError(ConfigError):
    """Say why the embedded lab cannot be started from the files it was given."""


class NoDeviceSource(ConfigError):
    """Say that a test asks for a device and that nothing tells where it should come from."""


class DeviceMismatch(ConfigError):
    """Say that the board at hand is not the one the fixture asked for."""


class DriverMissing(ConfigError):
    """Name the package to install for a driver client that is not there."""


class DriverNotAllowed(ConfigError):
    """Name a driver client that the client config's allow-list leaves out."""


class ConsoleNotFound(ConfigError):
    """Say that the device has no such console, and which drivers it has."""


class DeviceReleased(ConfigError):
    """Say that a handle was used after its board went back to the lab: keep none past its fixture's scope."""


class LeaseUnsatisfiable(ConfigError):
    """Say that no exporter can ever serve the lease, in the lab controller's own words."""


class DeviceError(JumpstarterError):
    """
    Say that a device that should have been there was not: the lab failed, not the product.

    Attributes:
        exporter: The exporter's name, where one was assigned.
        lease: The lease's name, where there was one.
    """

    exporter: str = ""
    lease: str = ""


class LeaseTimeout(DeviceError, TimeoutError):
    """Say that the lease was still pending after the longest wait."""


class LeaseLost(DeviceError):
    """Say that the lease ended before it was released."""


class ExporterOffline(DeviceError):
    """Say that the exporter went away."""


class HookFailed(DeviceError):
    """Say that the exporter's beforeLease hook failed, with its words."""


class DeviceUnreachable(DeviceError):
    """Say that the tunnel to the exporter cannot be opened, or broke."""


class RequestInvalid(JumpstarterError, ValueError):
    """Name the field of a request that does not fit the service's own description."""


class RequestError(JumpstarterError):
    """
    Carry a request that left and failed.

    Attributes:
        request: The request as it was sent; it never holds the token.
        response: The answer, if there was one.
    """

    def __init__(self, message: str, *, request: Request | None = None, response: Response | None = None) -> None:
        super().__init__(message)
        self.request = request
        self.response = response

    @property
    def finality(self) -> Finality:
        """Whether it is worth asking again."""
        return self._unanswered if self.response is None else self.response.finality

    _unanswered = Finality.FINAL  # without an answer, nothing was sent: the request, or the stubs, will not do


class TransportError(RequestError):
    """Say that no answer came, or none that counts."""

    _unanswered = Finality.PASSING


class ControllerUnreachable(TransportError, ConnectionError):
    """Say that the lab controller cannot be reached, and by which way it was tried."""


class RequestTimeout(TransportError, TimeoutError):
    """Say that no answer came in time."""


class TemporaryFailure(TransportError):
    """Say that the lab controller cannot do it now: it starts, or what it stands on is busy or away."""


class StatusError(RequestError):
    """Carry an error that the lab controller answered with."""


class MethodUnavailable(StatusError):
    """Say that the server, or the installed stubs, lack the method."""


class AuthenticationError(StatusError):
    """Say that the token is missing, malformed or not for this client."""


class TokenExpired(AuthenticationError):
    """Say that the token has run out."""


class PermissionDenied(StatusError):
    """Say that the token is good but the thing is not ours."""


class NotFound(StatusError):
    """Say that there is no such lease, exporter or client."""


class AlreadyExists(StatusError):
    """Say that the lease id is taken."""


class AlreadyReleased(StatusError):
    """Say that the lease was released before."""


class InvalidArgument(StatusError):
    """Say that the server refuses the request as malformed."""


class NotReady(StatusError):
    """Say that the exporter or lease is not in the state that the call needs."""


class ConsoleFatal(AssertionError):
    """Say that the board said something fatal, such as a kernel panic, while a test waited for something else."""

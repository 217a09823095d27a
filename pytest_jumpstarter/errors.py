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
    │   ├── HistoryError              a history file cannot be read or written, or is not one
    │   ├── NoDeviceSource            a test asks for a device, but no source of devices is configured
    │   ├── DeviceMismatch            the board at hand is not the one that was asked for
    │   ├── DriverMissing             a driver client cannot be imported (also an ImportError)
    │   ├── DriverNotAllowed          the client config does not allow a driver client (also an ImportError)
    │   ├── ConsoleNotFound           the device has no such console
    │   ├── FlasherNotFound           the device has no such driver that can flash
    │   ├── DeviceReleased            a device was used after it had been released
    │   └── LeaseUnsatisfiable        no exporter can ever serve the lease
    ├── DeviceError                   a device that should have been there was not
    │   ├── LeaseTimeout              the lease was still pending after the longest wait (also a TimeoutError)
    │   ├── LeaseLost                 the lease ended before it was released
    │   ├── ExporterOffline           the exporter went offline
    │   ├── HookFailed                the exporter's beforeLease hook failed
    │   └── DeviceUnreachable         the tunnel to the exporter cannot be opened, or broke
    ├── CallTimeout                   a driver call took longer than --jmp-call-timeout allows (also a TimeoutError)
    ├── ConsoleGarbled                characters were lost or changed between the test and the board's shell
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

`ConsoleFatal`, `BoardRebooted` and `MetricOutOfLimits` are not in the tree: they are `AssertionError`s, because the
product failed, not the lab or the user. So is `CommandFailed`; it is in device/command.py, with `CommandTimeout`, which
is a `pexpect.TIMEOUT`.
`StateNotReached` is not in the tree either: the error that it was raised from says whose fault it is.

The user must fix a *configuration error* (`ConfigError`, `RequestInvalid`, `AuthenticationError`,
`PermissionDenied`). A *device error* (`DeviceError`) is a failure of the lab.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from pytest_jumpstarter.option_errors import ConfigError as ConfigError
from pytest_jumpstarter.option_errors import JumpstarterError as JumpstarterError
from pytest_jumpstarter.option_errors import OptionError as OptionError
from pytest_jumpstarter.option_errors import SelectorError as SelectorError

Finality: TypeAlias = Literal["final", "refusal", "setup", "passing", "unknown"]
"""
Whether the same request may be answered differently if it is sent again.

- `final`: It will not: the object does not exist, the lease has ended, or the request is wrong.
- `refusal`: A token or a permission was refused: it counts if a second attempt, a moment later, is refused too.
- `setup`: The address or the certificates are wrong: final, unless requests have been answered there before.
- `passing`: It will: something restarts, is busy or cannot be reached at the moment.
- `unknown`: It is not known: no table has the text.
"""


if TYPE_CHECKING:  # a Protocol is slow to create, and every run would pay for it
    from collections.abc import Mapping
    from typing import Any, Protocol

    import grpc

    class FailedRequest(Protocol):
        """A request that failed: a `pytest_jumpstarter.client.v1.Request`, which this module must not import."""

        method: str
        """Name of the RPC, such as `CreateLease`."""
        headers: Mapping[str, str | bytes]
        """Metadata that was sent along, without the token."""
        timeout: float | None
        """Seconds for the call; None if the client's own was used."""

        @property
        def http(self) -> tuple[str, str, dict[str, Any] | None] | None:
            """Verb, URL and body of the call in HTTP; None if it has no HTTP form."""

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


class ClientConfigError(ConfigError):
    """The client config is missing, broken or incomplete."""


class ClientConfigMissing(ClientConfigError):
    """There is no client config; the message says where it was looked for."""


class LabError(ConfigError):
    """The embedded lab cannot be started from its lab files."""


class HistoryError(ConfigError):
    """A history file cannot be read or written, is of another program, or is of a newer version."""


class NoDeviceSource(ConfigError):
    """A test asks for a device, but no source of devices is configured."""


class DeviceMismatch(ConfigError):
    """The board at hand is not the one that the fixture asked for."""


class DriverMissing(ConfigError, ImportError):
    """A driver client cannot be imported; if its package is not installed, the message names it."""


class DriverNotAllowed(ConfigError, ImportError):
    """The allow-list of the client config does not contain a driver client."""


class ConsoleNotFound(ConfigError):
    """The device has no such console; the message lists its drivers."""


class FlasherNotFound(ConfigError):
    """The device has no driver that can flash, or several, or not this one; the message lists its drivers."""


class DeviceReleased(ConfigError):
    """A device was used after it had been released; do not keep it longer than the scope of its fixture."""


class LeaseUnsatisfiable(ConfigError):
    """
    No exporter can ever serve the lease; the message quotes the lab controller.

    Attributes:
        reason: The lab controller's reason in one word, such as `NoAccess`; empty if it gave none.
    """

    reason: str = ""


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


class CallTimeout(JumpstarterError, TimeoutError):
    """A driver call took longer than `--jmp-call-timeout` allows; the lab's fault only if the lab was silent then."""


class ConsoleGarbled(JumpstarterError):
    """Characters were lost or changed between the test and the board's shell, so that a result cannot be trusted."""


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

    _unanswered: Finality = "final"  # without an answer nothing was sent: the stubs or the request are not suitable


class TransportError(RequestError):
    """There was no answer, or only that there is none at the moment."""

    _unanswered: Finality = "passing"


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


class MetricOutOfLimits(AssertionError):
    """A metric is less than its minimum, or more than its maximum."""


class BoardRebooted(AssertionError):
    """The board booted, or its shell ended, while a command ran."""


class StateNotReached(Exception):
    """A board did not get into the state that a test needs; its cause is the error of the transition."""

"""
`MissingDriver`: takes the place of a driver client that cannot be used.

This module imports Jumpstarter's client code, so it is imported only after an exporter was connected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn
from uuid import UUID

from pytest_jumpstarter.errors import JumpstarterError
from pytest_jumpstarter.jumpstarter_private import StubDriverClient


class MissingDriver(StubDriverClient):  # type: ignore[misc, unused-ignore]  # Jumpstarter's classes may have no types
    """
    Takes the place of a driver client that cannot be used, and raises the reason at its first use.

    A board may have drivers that a suite never uses; their packages need not be installed. It is Jumpstarter's stub for
    such a driver, with an error of ours.

    Args:
        error: The error that is raised.
        uuid: The UUID of the driver; empty if unknown.
        labels: Its labels.
        is_temporary: Whether building the client may succeed the next time.
    """

    def __init__(
        self,
        error: JumpstarterError,
        *,
        uuid: str = "",
        labels: Mapping[str, str] | None = None,
        is_temporary: bool = False,
    ) -> None:
        self.__dict__.update(children={}, labels=dict(labels or {}), description=None, methods_description={})
        if uuid:
            self.__dict__["uuid"] = UUID(uuid)
        self.__dict__.update(error=error, is_temporary=is_temporary)

    @classmethod
    def turn(cls, stub: StubDriverClient, error: JumpstarterError) -> None:
        """Turn a stub of Jumpstarter's, which may be in use already, into a `MissingDriver` with this error."""
        stub.__class__ = cls
        stub.__dict__.update(error=error, is_temporary=False)

    def _use(self, *args: object, **kwargs: object) -> NoReturn:  # noqa: ARG002 - of any method
        """Raise the reason, at once."""
        __tracebackhide__ = True  # pytest shows the line of the test
        raise self.__dict__["error"].with_traceback(None)

    call = streamingcall = stream = log_stream = open_stream = _raise_missing_error = _use

    def __getattr__(self, name: str) -> NoReturn:
        __tracebackhide__ = True
        if name.startswith("__") or name == "cli":  # so that `j` leaves it out of its commands
            raise AttributeError(name)
        raise self.__dict__["error"].with_traceback(None)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<MissingDriver: {self.__dict__['error']}>"

    def close(self) -> None:
        """Do nothing: nothing is open."""

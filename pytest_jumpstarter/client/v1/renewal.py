"""
`TokenRenewal`: another token in place of an expired one.

It is taken from the client config's file if that has another token by now (`jmp login`, another run, another worker),
else from the identity provider, with the `refresh_token`. Providers may accept each refresh token only once, so one
process at a time reads the file, refreshes, and writes the new tokens back. A file that cannot be written is no
obstacle: then the new tokens stay in this process. Workers of xdist ask their controller process, which has them all;
one that cannot uses the `refresh_token` only if it can write the next one into the file for the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

from pytest_jumpstarter.client.v1.config import ClientConfig
from pytest_jumpstarter.client.v1.config_file import is_writable, locked, read_tokens, write_tokens
from pytest_jumpstarter.client.v1.oidc import RefreshFailed, Tokens, refresh
from pytest_jumpstarter.client.v1.response import NotRenewed
from pytest_jumpstarter.client.v1.secret import Token
from pytest_jumpstarter.client.v1.token import token_expiry, token_issuer
from pytest_jumpstarter.host import real_time

T = TypeVar("T")

_LEFT_ALONE = (
    "its refresh_token is not used here: other workers of the run have it too, the process that renews tokens for all "
    "of them cannot be asked, and there is no client config that can be written, which would tell them the next one"
)


class TokenRenewal:
    """
    Renews the token of one client config; safe to use from several threads.

    Args:
        config: The client config as it was read.
        elsewhere: Returns `answer` of another process that renews the token for this one and others, or None if that
            process does not answer, or cannot be asked; None: this process has nobody to ask.
    """

    def __init__(
        self, config: ClientConfig, *, elsewhere: Callable[[str], Mapping[str, Any] | None] | None = None
    ) -> None:
        self._config = config
        self._elsewhere = elsewhere
        self._lock = threading.Lock()
        self._own = Tokens(access=config.token, refresh=config.refresh_token or Token(""))
        self._in_file = self._own
        self._refused: dict[str, NotRenewed] = {}
        self._stamp: tuple[int, int] | None = None

    def renew(self, expired: str) -> str | NotRenewed | None:
        """Return a token other than `expired`, or why there is none; None if nothing can be done."""
        if self._elsewhere is not None and (answer := self._elsewhere(expired)) is not None:
            return self._understood(answer)
        return _to_its_end(partial(self._renew_alone, expired))

    def _renew_alone(self, expired: str) -> str | NotRenewed | None:
        with self._lock:
            if self._own.access != expired and not _is_over(self._own.access):
                return self._own.access
            with nullcontext() if self._config.path is None else locked(self._config.path):
                return self._renew(expired)

    def answer(self, expired: str) -> dict[str, Any]:
        """Return the result of `renew` for another process, which also masks what this one knows."""
        found = self.renew(expired)
        if isinstance(found, NotRenewed):
            return {"reason": found.reason, "is_passing": found.is_passing}
        return {"token": found, "secret": self._own.refresh} if found else {}

    def look(self) -> None:
        """Mask the tokens that the file has now, if it has changed: another process may have renewed them."""
        try:
            stat = self._config.path.stat() if self._config.path is not None else None
        except OSError:
            return
        if stat is not None and (stamp := (stat.st_mtime_ns, stat.st_ino)) != self._stamp:
            self._stamp = stamp
            read_tokens(self._config.path)  # type: ignore[arg-type]  # it has a path, or there were no stat

    def _understood(self, answer: Mapping[str, Any]) -> str | NotRenewed | None:
        if "reason" in answer:
            return NotRenewed(reason=str(answer["reason"]), is_passing=bool(answer["is_passing"]))
        if "token" not in answer:
            return None
        self._own = Tokens(access=Token(answer["token"]), refresh=Token(answer["secret"]))
        return self._own.access

    def _renew(self, expired: str) -> str | NotRenewed | None:
        known, found = self._in_file, None if self._config.path is None else read_tokens(self._config.path)
        if found is not None and found != known:  # somebody else wrote it since
            self._own = self._in_file = found
            if found.access != expired and not _is_over(found.access):
                return found.access
        if not self._own.refresh:
            return None
        if self._own.refresh in self._refused:
            return self._refused[self._own.refresh]
        if self._elsewhere is not None and not (self._config.path is not None and is_writable(self._config.path)):
            return NotRenewed(reason=_LEFT_ALONE)
        result = self._refresh()
        if isinstance(result, NotRenewed):
            if not result.is_passing:
                self._refused[self._own.refresh] = result
            return result
        self._own = result
        if self._config.path is not None and write_tokens(self._config.path, result):
            self._in_file = result
        return result.access

    def _refresh(self) -> Tokens | NotRenewed:
        issuer = token_issuer(self._own.access)
        if issuer is None:
            return NotRenewed(reason="its refresh_token cannot be used: the token does not name its issuer")
        try:
            return refresh(issuer, self._own.refresh)
        except RefreshFailed as failure:
            return NotRenewed(reason=str(failure), is_passing=failure.is_passing)


def _to_its_end(function: Callable[[], T]) -> T:
    """
    Return the result of a function, which goes on if a signal handler raises an error here.

    Else the provider might have accepted the refresh token for the last time, and nobody would have the next one.
    """
    executor = ThreadPoolExecutor(1, "jumpstarter-token")
    try:
        result = executor.submit(function)
    except RuntimeError:  # no more threads, or the interpreter ends
        return function()
    finally:
        executor.shutdown(wait=False)
    return result.result()


def _is_over(token: str) -> bool:
    expiry = token_expiry(token)
    return expiry is not None and expiry.timestamp() <= real_time.time()

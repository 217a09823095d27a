"""`LabAccess`: access to the lab: client config, client, and the embedded lab if this process runs it."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_jumpstarter.errors import ClientConfigError, ClientConfigMissing, ConfigError, LabError, NoDeviceSource
from pytest_jumpstarter.host import real_time
from pytest_jumpstarter.settings import Settings

if TYPE_CHECKING:
    import pytest

    from pytest_jumpstarter.client.v1 import Client, ClientConfig
    from pytest_jumpstarter.client.v1.renewal import TokenRenewal
    from pytest_jumpstarter.lab import Lab

_LOOK_INTERVAL = 1.0
_FIVE_WAYS = """\
no source of devices is configured. Five ways:
  pytest --jmp-lab=FILE              start a lab from this file
  pytest --jmp-direct=HOST:PORT      use the exporter at this address
  jmp shell ... -- pytest            use the shell's exporter
  pytest --jmp-client=ALIAS-OR-FILE  lease with this client config
  jmp config client use ALIAS        make it the current client config"""


class LabAccess:
    """
    Access to the lab of a run. The lab is found or started on first use, from any thread.

    Args:
        own_client: Returns a client that somebody else made and closes, or None; called once, in lease mode.
        lab_elsewhere: Returns the client config of the embedded lab that another process runs; None if this process
            runs it.
        token_elsewhere: Renews an expired token in another process, as `TokenRenewal` has it; None: in this one.
        say: Called with each line that people should see when the embedded lab has started.
        meanwhile: Called in a thread while the embedded lab starts.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        own_client: Callable[[], Client | None],
        lab_elsewhere: Callable[[], Path] | None = None,
        token_elsewhere: Callable[[str], Mapping[str, Any] | None] | None = None,
        say: Callable[[str], None] = lambda _: None,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        self._settings = settings
        self._say = say
        self._meanwhile = meanwhile
        self._get_own_client = own_client
        self._own_client: Client | None = None
        self._lab_elsewhere = lab_elsewhere
        self._token_elsewhere = token_elsewhere
        self._lock = threading.RLock()
        self._lab: Lab | None = None
        self._failure: LabError | None = None
        self._config: ClientConfig | None = None
        self._client: Client | None = None
        self._renewal: TokenRenewal | None = None
        self._looked = 0.0

    @property
    def has_lab(self) -> bool:
        """Whether this process runs the embedded lab."""
        return self._lab is not None

    @property
    def config(self) -> ClientConfig:
        """
        The client config.

        Raises:
            NoDeviceSource: There is none.
            ClientConfigError, LabError: It is broken, or the lab does not start.
            ConfigError: The hook for a client of one's own returned something else.
        """
        with self._lock:
            if self._config is None:
                own = self._own_client = self._checked_own_client() if self._settings.mode == "lease" else None
                self._config = self._load() if own is None else _config_of(own, self._settings)
            return self._config

    @property
    def client(self) -> Client:
        """The client of the lab controller; it renews its token from the config. Errors as for `config`."""
        with self._lock:
            if self._client is None:
                from pytest_jumpstarter.client.v1 import Client

                config = self.config
                self._client = client = self._own_client or Client.from_config(config)
                client.renew = client.renew or (lambda: self.renewal.renew(client.token))
            return self._client

    @property
    def renewal(self) -> TokenRenewal:
        """What renews the token of the client config. Errors as for `config`."""
        with self._lock:
            if self._renewal is None:
                from pytest_jumpstarter.client.v1.renewal import TokenRenewal

                self._renewal = TokenRenewal(self.config, elsewhere=self._token_elsewhere)
            return self._renewal

    def learn_tokens(self, *, is_urgent: bool = True) -> None:
        """
        Mask the tokens that another process has written into the client config, if this one uses it.

        Args:
            is_urgent: Whether something is about to be shown; otherwise the file is looked at once a second.
        """
        now = real_time.monotonic()
        if self._client is not None and (is_urgent or now - self._looked > _LOOK_INTERVAL):
            self._looked = now
            self.renewal.look()

    def client_option(self) -> str:
        """Return the option that makes `jmp` use the client of this run; empty if it does so without one."""
        from pytest_jumpstarter.client.v1.config import config_home

        chosen, path = self._settings.find("client"), self.config.path
        if path is None or (chosen is None and self._settings.mode != "lab"):
            return ""
        if chosen is not None and path == config_home(self._settings.environ) / "clients" / f"{chosen.value}.yaml":
            return f" --client {shlex.quote(chosen.value)}"
        return f" --client-config {shlex.quote(str(path.absolute()))}"

    def close(self) -> None:
        """Disconnect from the lab controller; stop the embedded lab if this process runs it."""
        with self._lock:
            lab, self._lab = self._lab, None
            try:
                if self._client is not None and self._client is not self._own_client:
                    self._client.close()
            finally:
                if lab is not None:
                    lab.stop()

    def _checked_own_client(self) -> Client | None:
        from pytest_jumpstarter.client.v1 import Client

        client = self._get_own_client()
        if not isinstance(client, Client | None):
            raise ConfigError(f"hook pytest_jumpstarter_client returned {client!r}, which is not a Client")
        return client

    def _load(self) -> ClientConfig:
        from pytest_jumpstarter.client.v1 import ClientConfig

        if self._settings.mode == "lab":
            path = self._start_lab() if self._lab_elsewhere is None else self._lab_elsewhere()
            return ClientConfig.load(path, environ={})  # the lab's own file needs nothing from the environment
        chosen = self._settings.find("client")
        try:
            return ClientConfig.load(chosen.value if chosen else None, environ=self._settings.environ)
        except ClientConfigMissing as exc:
            raise NoDeviceSource(f"{_FIVE_WAYS}\n({exc})") from exc
        except ClientConfigError as exc:
            raise ClientConfigError(f"{exc} (from {chosen.source})" if chosen else str(exc)) from exc

    def _start_lab(self) -> Path:
        """Start the lab; if that failed before, raise the same error without another attempt."""
        from pytest_jumpstarter.lab import Lab
        from pytest_jumpstarter.lab.documents import read_documents
        from pytest_jumpstarter.lab.ports import shared_ports

        if self._failure is not None:
            raise self._failure
        setting = self._settings["lab"]
        lab = Lab([setting.value])
        try:
            documents = read_documents([setting.value])
            for text in shared_ports([document.config for document in documents]):  # before our exporters open them
                self._say(text)
            with nullcontext() if self._meanwhile is None else _in_thread(self._meanwhile):
                lab.start()
        except LabError as exc:
            self._failure = LabError(f"{exc} (from {setting.source})")
            raise self._failure from exc
        self._lab = lab
        for notice in (notice for document in documents for notice in document.notices):
            self._say(notice)
        config: Path = lab.client_config
        return config


def lab_access_of(
    config: pytest.Config,
    settings: Settings,
    *,
    lab_elsewhere: Callable[[], Path] | None = None,
    token_elsewhere: Callable[[str], Mapping[str, Any] | None] | None = None,
    say: Callable[[str], None] = lambda _: None,
    meanwhile: Callable[[], None] | None = None,
) -> LabAccess:
    """Return the access to the lab of a pytest run, whose hooks may provide a client."""

    def own_client() -> Client | None:
        client: Client | None = config.hook.pytest_jumpstarter_client(config=config)
        return client

    return LabAccess(
        settings,
        own_client=own_client,
        lab_elsewhere=lab_elsewhere,
        token_elsewhere=token_elsewhere,
        say=say,
        meanwhile=meanwhile,
    )


@contextmanager
def _in_thread(work: Callable[[], None]) -> Iterator[None]:
    """Do some work in a thread meanwhile, and wait for its end; nothing is done if no thread can be started."""
    thread = threading.Thread(target=work, name="jumpstarter-imports", daemon=True)
    with suppress(RuntimeError):
        thread.start()
    try:
        yield
    finally:
        if thread.is_alive():
            thread.join()


def _config_of(client: Client, settings: Settings) -> ClientConfig:
    """Return the config of a client that a hook provided; if it has none, one with its values."""
    from pytest_jumpstarter.client.v1 import ClientConfig

    if client.config is not None:
        return client.config
    allow = tuple(filter(None, settings.environ.get("JMP_DRIVERS_ALLOW", "").split(",")))
    return ClientConfig(
        endpoint=client.endpoint,
        token=client.token,
        namespace=client.namespace,
        name=client.name,
        tls=client.tls,
        driver_allow=allow,
        driver_unsafe="UNSAFE" in allow,
        source="hook pytest_jumpstarter_client",
    )

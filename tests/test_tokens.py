"""Access tokens that expire and are refreshed at an identity provider, in runs against a lab that trusts it."""

from __future__ import annotations

import os
import resource
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from conftest import exporter_document
from faulty import FaultyLab, faulty_lab, prepare
from identity_provider import IdentityProvider, identity_provider
from runs import interrupted_after, running, until, wait_for

from pytest_jumpstarter.client.v1 import Client, ClientConfig
from pytest_jumpstarter.client.v1.renewal import TokenRenewal
from pytest_jumpstarter.client.v1.response import NotRenewed
from pytest_jumpstarter.client.v1.token import token_expiry
from pytest_jumpstarter.collection.check import _token
from pytest_jumpstarter.errors import TokenExpired
from pytest_jumpstarter.masking import mask
from pytest_jumpstarter.types.__main__ import main as write_types

pytestmark = pytest.mark.usefixtures("all_plugins")

# Imported here, since pytester takes back what a run in this process imports.
pytest.importorskip("authlib.integrations.requests_client")

EXPIRED = -60.0
CONFIG = """\
# by hand
apiVersion: jumpstarter.dev/v1alpha1
kind: ClientConfig
metadata: {namespace: lab, name: default}
endpoint: 127.0.0.1:1
token: TOKEN
refresh_token: REFRESH  # of `jmp login`
motd: kept
"""


@pytest.fixture(scope="module")
def two_boards() -> Iterator[FaultyLab]:
    """Serve a lab with two boards."""
    documents = "---\n".join(exporter_document(name, "kind: dut") for name in ("b-1", "b-2"))
    with faulty_lab(lambda _: documents) as (lab, _):
        yield lab


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IdentityProvider]:
    """Serve an identity provider."""
    with identity_provider(tmp_path) as provider:
        monkeypatch.setenv("SSL_CERT_FILE", str(provider.ca))
        yield provider


@pytest.fixture
def trusting(two_boards: FaultyLab, provider: IdentityProvider, pytester: pytest.Pytester) -> Iterator[FaultyLab]:
    """Return the lab, which accepts the tokens of the provider; the suite leases from it."""
    prepare(pytester, two_boards)
    two_boards.order(f"trust default {provider.issuer} {provider.issuer}/keys {provider.ca}")
    yield two_boards
    two_boards.give_token()
    until(lambda: two_boards.leases() == [], timeout=60)


@pytest.fixture
def config(provider: IdentityProvider, tmp_path: Path) -> Path:
    """Return a client config whose token has expired."""
    granted = provider.grant(EXPIRED)
    file = tmp_path / "ci.yaml"
    file.write_text(
        CONFIG.replace("TOKEN", granted["access_token"]).replace("REFRESH", granted["refresh_token"]), encoding="utf-8"
    )
    return file


def renewal_of(config: Path) -> TokenRenewal:
    """Return what renews the token of a client config, as another process would."""
    return TokenRenewal(ClientConfig.load(config))


def secrets_in(folder: Path, provider: IdentityProvider) -> list[str]:
    """Return the files of a folder that have any token of the provider."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return [str(file) for file in files if any(token.encode() in file.read_bytes() for token in provider.tokens)]


SHOWING = """
import logging, pathlib, pytest
CONFIG = pathlib.Path(CONFIG_PATH)

@pytest.mark.parametrize("number", range(2))
def test_it(dut, number, record_property):
    dut.power.on()
    text = CONFIG.read_text()
    print(text)
    logging.warning(text)
    record_property("said", text.split()[-1])
    assert not text, text
"""


def test_expired_at_the_start(trusting: FaultyLab, provider: IdentityProvider, pytester: pytest.Pytester) -> None:
    """A run with an expired token gets a new one, which the config gets too; nothing shows any of the tokens."""
    provider.log_in(trusting.config, lifetime=EXPIRED)
    pytester.makepyfile(SHOWING.replace("CONFIG_PATH", repr(str(trusting.config))))
    reports = ("--junitxml=out/junit.xml", "--jmp-report=out/r.json", "--jmp-report=out/r.html")
    result = pytester.runpytest_subprocess("--showlocals", *reports, "--jmp-artifacts=out/a")
    result.assert_outcomes(failed=2)  # by their own assertion
    assert [form["grant_type"] for form in provider.asked] == ["refresh_token"]
    written = yaml.safe_load(trusting.config.read_text())
    assert [written["token"], written["refresh_token"]] == provider.tokens[-2:]
    shown = result.outlines + result.errlines
    assert not [line for line in shown if any(token in line for token in provider.tokens)]
    assert secrets_in(pytester.path / "out", provider) == []


def test_expired_while_types_are_written(
    trusting: FaultyLab, provider: IdentityProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program that writes typed boards gets a new token likewise."""
    provider.log_in(trusting.config, lifetime=EXPIRED)
    assert write_types(["kind=dut", "--client", str(trusting.config)]) == 0
    assert "class " in capsys.readouterr().out


def test_expires_during_a_run(trusting: FaultyLab, provider: IdentityProvider, pytester: pytest.Pytester) -> None:
    """A token that expires while a lease is held is refreshed: the lease is extended, and released."""
    provider.lifetime = 2.0
    provider.log_in(trusting.config, lifetime=2.0)
    pytester.makepyfile(
        """
        def test_it(dut):
            print('HOLDING', flush=True)
            input()
            dut.power.on()
        """
    )
    with running(pytester, "--jmp-ttl=5s") as process:
        wait_for(process.stdout, "HOLDING")
        before = len(provider.asked)
        until(lambda: len(provider.asked) > before, timeout=60)
        output = process.communicate("go\n", timeout=60)[0]
    assert process.returncode == 0, output
    assert provider.reused == 0
    assert not any(token in output for token in provider.tokens)


def test_refresh_is_refused(trusting: FaultyLab, provider: IdentityProvider, pytester: pytest.Pytester) -> None:
    """A refusal is told with the provider, its reason and what to do; it is asked once, however often we look."""
    provider.log_in(trusting.config, lifetime=EXPIRED)
    provider.refusal = "invalid_grant"
    pytester.makepyfile("def test_it(dut): pass\ndef test_more(dut): pass")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=2)
    words = f"{provider.issuer} refuses the refresh_token (invalid_grant: Session not active); run `jmp login`"
    assert words in result.stdout.str()
    assert len(provider.asked) == 1
    assert not any(token in result.stdout.str() for token in provider.tokens)


def test_two_workers(
    trusting: FaultyLab, provider: IdentityProvider, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers without a file to share ask the provider once, and what they show has no token."""
    fields = yaml.safe_load(trusting.config.read_text())
    granted = provider.grant(EXPIRED)
    variables = {"TOKEN": granted["access_token"], "REFRESH_TOKEN": granted["refresh_token"]}
    variables |= {"NAMESPACE": "lab", "NAME": "default", "ENDPOINT": fields["endpoint"], "DRIVERS_ALLOW": "UNSAFE"}
    for name, value in variables.items():
        monkeypatch.setenv(f"JMP_{name}", value)
    monkeypatch.setenv("JMP_TLS", f'{{"ca": "{fields["tls"]["ca"]}"}}')
    pytester.makeini("[pytest]\njmp_selector = kind=dut\njmp_ttl = 20s\njmp_wait = 30s\n")
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.parametrize("number", range(4))
        def test_it(dut, number, jumpstarter):
            dut.power.on()
            print("".join(["TOKEN IS ", str.__str__(jumpstarter.client.token)]))
            assert number != 3
        """
    )
    result = pytester.runpytest_subprocess("-n2", "-v", "-rP")
    result.assert_outcomes(passed=3, failed=1)
    assert {line[1:4] for line in result.outlines if line.startswith("[gw")} == {"gw0", "gw1"}
    assert (len(provider.asked), provider.reused) == (1, 0)
    result.stdout.fnmatch_lines(["*TOKEN IS *"])
    assert not any(token in result.stdout.str() for token in provider.tokens)


READ_ONLY = """
import errno, os, pathlib, sys, time
import pytest

FOLDER, TRIES = {folder!r}, {tries!r}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def read_only(event, args):
    "Let every attempt to write into the folder fail, as in a file system that is mounted so; note it."
    if event not in ("open", "os.rename") or not isinstance(args[0], str) or not args[0].startswith(FOLDER):
        return
    if event == "os.rename" or args[2] & WRITING:
        with open(TRIES, "a") as file:
            file.write(f"{{os.getpid()}} {{event}} {{args[0]}}\\n")
        raise OSError(errno.EROFS, "Read-only file system", args[0])

sys.addaudithook(read_only)
"""
HOLDING = """
import logging, os, pathlib, time
import pytest

@pytest.mark.parametrize("number", range(4))
def test_it(dut, number, jumpstarter, record_property):
    pathlib.Path(os.environ["PYTEST_XDIST_WORKER"]).touch()
    end = time.monotonic() + 120
    while not pathlib.Path("OVER").exists() and time.monotonic() < end:
        dut.power.on()
        time.sleep(0.2)
    text = pathlib.Path({config!r}).read_text() + str.__str__(jumpstarter.client.token)
    print(text)
    logging.warning(text)
    record_property("said", text)
    assert not text, text
"""
FILES = [
    *("--junitxml=out/junit.xml", "--jmp-report=out/r.json", "--jmp-report=out/r.html", "--html=out/page.html"),
    *("--jmp-artifacts=out/a", "--jmp-history=out/history.db", "--jmp-metrics=out/m.txt", "--log-file=out/log.txt"),
]


def test_two_workers_with_a_config_that_cannot_be_written(
    trusting: FaultyLab, provider: IdentityProvider, pytester: pytest.Pytester
) -> None:
    """Both workers go on with tokens that only the controller process has, though these expire again and again."""
    provider.lifetime = 2.0
    provider.log_in(trusting.config, lifetime=2.0)
    before, tries = trusting.config.read_bytes(), pytester.path / "tries"
    pytester.makeconftest(READ_ONLY.format(folder=str(trusting.config.parent), tries=str(tries)))
    pytester.makepyfile(HOLDING.format(config=str(trusting.config)))
    (pytester.path / "out").mkdir()
    with running(pytester, "-n2", "--jmp-ttl=5s", "--showlocals", *FILES) as process:
        until(lambda: all((pytester.path / name).exists() for name in ("gw0", "gw1")), timeout=60)
        asked = len(provider.asked)
        until(lambda: len(provider.asked) >= asked + 2, timeout=60)
        (pytester.path / "OVER").touch()
        output = process.communicate(timeout=120)[0]
    assert "4 failed" in output, output  # by their own assertion
    assert (provider.reused, trusting.config.read_bytes()) == (0, before)
    assert len({line.split()[0] for line in tries.read_text().splitlines()}) == 1, "only one process refreshes"
    assert not any(token in output for token in provider.tokens)
    written = {file.relative_to(pytester.path / "out").parts[0] for file in (pytester.path / "out").rglob("*")}
    assert written >= {"junit.xml", "r.json", "r.html", "a", "history.db", "m.txt", "log.txt", "page.html"}
    assert "endpoint: 127.0.0.1" in (pytester.path / "out" / "junit.xml").read_text(), "what the test has shown"
    assert secrets_in(pytester.path / "out", provider) == []


def test_worker_without_its_controller_process(
    provider: IdentityProvider, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may have used its refresh token, and nobody can tell: it is used only if the config can be written."""
    worker = TokenRenewal(ClientConfig.load(config), elsewhere=lambda _: None)
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda *_: False)
        found = worker.renew(provider.tokens[0])
    assert isinstance(found, NotRenewed)
    assert "its refresh_token is not used here: other workers of the run have it too" in found.reason
    assert provider.asked == []
    assert worker.renew(provider.tokens[0]) == provider.tokens[2]
    assert provider.tokens[3] in config.read_text()
    without_file = TokenRenewal(replace(ClientConfig.load(config), path=None), elsewhere=lambda _: None)
    assert isinstance(without_file.renew(provider.tokens[2]), NotRenewed)
    provider.log_in(config, lifetime=60)
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda *_: False)
        assert worker.renew(provider.tokens[2]) == provider.tokens[4]  # that somebody has logged in helps nevertheless
    assert (len(provider.asked), provider.reused) == (1, 0)


def test_protected_config(provider: IdentityProvider, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that its owner has protected is not replaced, although its folder would allow that."""
    config.chmod(0o444)
    if os.getuid() == 0:  # to whom every file can be written
        access = os.access
        monkeypatch.setattr(
            "os.access", lambda path, mode: access(path, mode) and not (path == config and mode & os.W_OK)
        )
    before, renewal = config.read_bytes(), renewal_of(config)
    provider.lifetime = EXPIRED
    found = [renewal.renew(provider.tokens[0])]
    found.append(renewal.renew(str(found[0])))
    assert found == [provider.tokens[2], provider.tokens[4]]
    assert (provider.reused, config.read_bytes(), config.stat().st_mode & 0o777) == (0, before, 0o444)
    assert [file.name for file in config.parent.iterdir() if "ci.yaml" in file.name] == ["ci.yaml"]


def test_runs_do_not_fight(provider: IdentityProvider, config: Path) -> None:
    """Of many processes that need a new token at once, one asks the provider, and the others find its answer."""
    found: list[str | NotRenewed | None] = []
    renewals = [renewal_of(config) for _ in range(8)]
    expired = provider.tokens[0]
    threads = [threading.Thread(target=lambda it=each: found.append(it.renew(expired))) for each in renewals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [provider.tokens[2]] * 8
    assert (len(provider.asked), provider.reused) == (1, 0)
    assert config.read_text() == CONFIG.replace("TOKEN", provider.tokens[2]).replace("REFRESH", provider.tokens[3])
    assert config.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in config.parent.iterdir() if "ci.yaml" in file.name] == ["ci.yaml"]


def test_config_that_cannot_be_written(provider: IdentityProvider, config: Path) -> None:
    """It keeps its old tokens; the process goes on with the new ones, also when these expire."""
    before, renewal = config.read_bytes(), renewal_of(config)
    provider.lifetime = EXPIRED
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, old[1]))  # a superuser may write what is protected, but not this
    try:
        found = [renewal.renew(provider.tokens[0])]
        found.append(renewal.renew(str(found[0])))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert found == [provider.tokens[2], provider.tokens[4]]
    assert (provider.reused, config.read_bytes()) == (0, before)
    provider.lifetime = 60
    assert renewal.renew(str(found[1])) == provider.tokens[6]
    assert yaml.safe_load(config.read_text())["refresh_token"] == provider.tokens[7]  # now it could


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_config_of_another_user(provider: IdentityProvider, config: Path) -> None:
    """The config of somebody else stays theirs, or they could not read their tokens any more."""
    os.chown(config, 12345, 12345)
    assert renewal_of(config).renew(provider.tokens[0]) == provider.tokens[2]
    assert (config.stat().st_uid, config.stat().st_gid) == (12345, 12345)
    assert provider.tokens[2] in config.read_text()


def test_interrupted_while_the_provider_answers(provider: IdentityProvider, config: Path) -> None:
    """After Ctrl-C the config gets the new tokens nevertheless: the provider does not accept the old one again."""
    renewal = renewal_of(config)
    with interrupted_after(0.3), provider.busy(), pytest.raises(KeyboardInterrupt):
        renewal.renew(provider.tokens[0])
    until(lambda: len(provider.tokens) == 4 and provider.tokens[-1] in config.read_text(), timeout=20)
    assert (len(provider.tokens), provider.reused) == (4, 0)
    assert renewal.renew(provider.tokens[0]) == provider.tokens[2]


def test_login_meanwhile(provider: IdentityProvider, config: Path) -> None:
    """Tokens that somebody else has written are used, and masked; a refused refresh token does not count any more."""
    renewal = renewal_of(config)
    provider.refusal = "invalid_grant"
    assert isinstance(renewal.renew(provider.tokens[0]), NotRenewed)
    provider.log_in(config, lifetime=60)
    assert mask(provider.tokens[3]) == provider.tokens[3]
    renewal.look()
    assert mask(provider.tokens[3]) == "***"
    assert renewal.renew(provider.tokens[0]) == provider.tokens[2]
    assert len(provider.asked) == 1
    provider.log_in(config, lifetime=EXPIRED)
    provider.refusal = ""
    assert renewal.renew(provider.tokens[2]) == provider.tokens[6]


def test_provider_is_away_for_a_moment(provider: IdentityProvider, config: Path) -> None:
    """Trouble of the provider passes: it is asked again, and what waits for a lease goes on waiting."""
    renewal = renewal_of(config)
    provider.status = 503
    found = renewal.renew(provider.tokens[0])
    assert isinstance(found, NotRenewed)
    assert found.is_passing
    assert provider.issuer in found.reason
    provider.status = 200
    assert renewal.renew(provider.tokens[0]) == provider.tokens[-2]


@pytest.mark.parametrize("is_passing", [True, False])
def test_error_tells_why(two_boards: FaultyLab, is_passing: bool) -> None:
    """The error of a request has the reason; whether it counts as final depends on it."""
    two_boards.order("expire")
    with Client.from_config(two_boards.config) as client:
        client.renew = lambda: NotRenewed(reason="the provider says no", is_passing=is_passing)
        with pytest.raises(TokenExpired, match=r"; the provider says no; run `jmp login`") as caught:
            client.get_lease("x")
    assert caught.value.finality == ("passing" if is_passing else "refusal")
    two_boards.give_token()


def test_certificate_of_the_provider(
    provider: IdentityProvider, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider whose certificate is not trusted gets no refresh token; SSL_CERT_FILE is named."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    found = renewal_of(config).renew(provider.tokens[0])
    assert isinstance(found, NotRenewed)
    assert f"the certificate of {provider.issuer} is not trusted" in found.reason
    assert "SSL_CERT_FILE" in found.reason
    assert provider.asked == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, {}), "does not answer as an identity provider"),
        ((200, {"access_token": "", "token_type": "bearer"}), "does not answer as an identity provider"),
        ((200, {"access_token": ["x"], "token_type": "bearer"}), "does not answer as an identity provider"),
        ((200, {"access_token": "a\nb", "token_type": "bearer"}), "does not answer as an identity provider"),
        ((400, {"error": "temporarily_unavailable"}), "refuses the refresh_token (temporarily_unavailable:)"),
        ((404, {}), "does not"),
    ],
)
def test_odd_answers(
    provider: IdentityProvider,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: tuple[int, Any],
    reason: str,
) -> None:
    """Whatever the provider answers, it ends in a reason."""
    monkeypatch.setattr(provider, "refresh", lambda form: answer)
    found = renewal_of(config).renew(provider.tokens[0])
    assert isinstance(found, NotRenewed)
    assert reason in found.reason


def test_token_without_an_issuer(config: Path) -> None:
    """A token that does not name its issuer cannot be refreshed; without a refresh token nothing is tried."""
    config.write_text(CONFIG.replace("TOKEN", "no-web-token"))
    found = renewal_of(config).renew("no-web-token")
    assert isinstance(found, NotRenewed)
    assert "does not name its issuer" in found.reason
    config.write_text(CONFIG.replace("TOKEN", "no-web-token").replace("refresh_token", "other"))
    assert renewal_of(config).renew("no-web-token") is None


def test_check_of_an_expired_token(config: Path) -> None:
    """`--jmp-check` shows that a token has expired; that is bad only without a refresh token."""
    label, text, is_bad = _token(ClientConfig.load(config))
    assert (label, is_bad) == ("token", False)
    assert text.endswith("; the refresh_token gets a new one")
    config.write_text(config.read_text().replace("refresh_token", "other"))
    assert _token(ClientConfig.load(config))[2]


def test_nobody_at_the_issuer(provider: IdentityProvider, config: Path) -> None:
    """A provider that is gone may come back."""
    provider.server.server_close()
    assert token_expiry(provider.tokens[0]) is not None
    found = renewal_of(config).renew(provider.tokens[0])
    assert isinstance(found, NotRenewed)
    assert found.is_passing
    assert "cannot be asked" in found.reason
    assert isinstance(provider.server.socket, ssl.SSLSocket)

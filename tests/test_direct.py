"""`--jmp-direct`: one exporter over TCP without a lab controller, a real `jmp run --tls-grpc-listener`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import trustme
from runs import running, wait_for
from standalone import PASSPHRASE, RunningExporter, serving

DRIVE = "def test_it(dut): dut.power.on()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the certificate of 127.0.0.1, the authority that signed it, and another authority."""
    folder = tmp_path_factory.mktemp("direct")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
    (folder / "broken.pem").write_text("no certificate")
    return folder


@pytest.fixture(scope="module")
def secured(running_exporter: RunningExporter, folder: Path) -> Iterator[str]:
    """Return HOST:PORT of an exporter with TLS and a passphrase."""
    tls = ["--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem")]
    with serving(running_exporter, folder, *tls, "--passphrase", PASSPHRASE) as address:
        yield address


@pytest.fixture(scope="module")
def plain(running_exporter: RunningExporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return HOST:PORT of an exporter that speaks plain text and asks for no passphrase."""
    with serving(running_exporter, tmp_path_factory.mktemp("plain"), "--tls-grpc-insecure") as address:
        yield address


@pytest.fixture
def here(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a folder whose suite drives a device, with the passphrase in the environment."""
    monkeypatch.setenv("JMP_GRPC_PASSPHRASE", PASSPHRASE)
    pytester.makepyfile(DRIVE)
    return pytester


def refused(suite: pytest.Pytester, message: str, *args: str) -> None:
    """Run, and see the one test end in a configuration error that is one line, `message`, without the passphrase."""
    result = suite.runpytest(*args)
    result.assert_outcomes(errors=1)
    start = next(i for i, line in enumerate(result.outlines) if "ERROR at setup" in line)
    shown = [line for line in result.outlines[start + 1 :] if not line.startswith("jumpstarter: exit code")]
    said, end = shown[:2]
    assert fnmatchcase(said, message), said
    assert end.startswith(("===", "---"))
    assert PASSPHRASE not in result.stdout.str() + result.stderr.str()


def test_tls_with_an_authority(here: pytest.Pytester, secured: str, folder: Path) -> None:
    """TLS, the authority's file beside the ini file, a passphrase: driven, with nothing leased, all in the header."""
    here.path.joinpath("ca.pem").write_bytes((folder / "ca.pem").read_bytes())
    here.makeini(f"[pytest]\njmp_direct = {secured}\njmp_direct_ca = ca.pem\n")
    here.makepyfile(
        f"""
        import pytest

        def test_it(dut, jumpstarter):
            dut.power.on()
            assert [reading.voltage for reading in dut.power.read()] == [0.0, 5.0]
            assert (jumpstarter.mode, jumpstarter.leases, dut.lease) == ("direct", [], None)
            assert (dut.exporter.name, dut.exporter.labels) == ("{secured}", None)
            with pytest.raises(Exception, match="there is none with --jmp-direct"):
                jumpstarter.client
        """
    )
    result = here.runpytest()
    result.assert_outcomes(passed=1, warnings=0)
    result.stdout.fnmatch_lines([f"jumpstarter: direct mode, *direct={secured} (jmp_direct in tox.ini)*"])
    result.stdout.fnmatch_lines([f"{secured} *1*"])  # of the table at the end
    result.stdout.no_fnmatch_line(f"*{PASSPHRASE}*")


def test_plain_text_where_it_is_asked_for(here: pytest.Pytester, plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`grpc://` means plain text; the option comes before a shell around the run, and the shell's words are not its."""
    monkeypatch.setenv("JUMPSTARTER_HOST", "/no/such/socket")
    monkeypatch.setenv("JMP_EXPORTER_LABELS", "board=of-the-shell")
    here.makeconftest("from pytest_jumpstarter import device_fixture\ndut = device_fixture(selector='board=rpi4')")
    result = here.runpytest(f"--jmp-direct=grpc://{plain}", "-W", "always")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines([f"*'dut' asks for *does not tell which exporter is at {plain} (JMP_EXPORTER, *"])


@pytest.mark.parametrize(
    ("ca", "message"),
    [
        ([], "the TLS certificate of {} is not trusted; --jmp-direct-ca=FILE trusts the certificate authority in FILE"),
        (["--jmp-direct-ca={}/other.pem"], "the TLS certificate of {} is not trusted; --jmp-direct-ca=FILE *"),
        (["--jmp-direct-ca={}/broken.pem"], "the CA certificates for {} are broken: they must be PEM"),
        (
            ["--jmp-direct-ca={}/none.pem"],
            "--jmp-direct-ca: certificate authority */none.pem cannot be read: No such *",
        ),
    ],
    ids=["system roots", "another authority", "broken file", "no file"],
)
def test_authority_that_does_not_fit(
    here: pytest.Pytester, secured: str, folder: Path, ca: list[str], message: str
) -> None:
    """Whom the authority in force did not sign is not spoken to; the error says what to do."""
    expected = message.format(f"the exporter at {secured} (--jmp-direct)")
    refused(here, expected, f"--jmp-direct={secured}", *(option.format(folder) for option in ca))


def test_one_way_expects_tls_the_other_not(here: pytest.Pytester, secured: str, plain: str) -> None:
    """Both mistakes about TLS say what the exporter speaks, and what to write."""
    words = f"the exporter at {plain} (--jmp-direct) speaks plain text, not TLS; grpc://{plain} allows that"
    refused(here, words, f"--jmp-direct={plain}")
    words = f"the exporter at {secured} (--jmp-direct) speaks TLS, not plain text; leave out grpc:// in --jmp-direct"
    refused(here, words, f"--jmp-direct=grpc://{secured}")


@pytest.mark.parametrize("passphrase", ["wrong-but-secret", ""], ids=["wrong", "missing"])
def test_passphrase_refused(
    here: pytest.Pytester, secured: str, folder: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str
) -> None:
    """A wrong or missing passphrase is a configuration error that shows it nowhere, not even with local variables."""
    monkeypatch.setenv("JMP_GRPC_PASSPHRASE", passphrase)
    args = [f"--jmp-direct={secured}", f"--jmp-direct-ca={folder}/ca.pem"]
    refused(here, "the exporter at * refuses us: invalid or missing passphrase; JMP_GRPC_PASSPHRASE must *", *args)
    shown = here.runpytest("--showlocals", "--full-trace", *args)
    assert "wrong-but-secret" not in shown.stdout.str() + shown.stderr.str()


def test_nobody_listens(here: pytest.Pytester, dead: str) -> None:
    """An exporter that is not there is a device error, since it may come back."""
    result = here.runpytest(f"--jmp-direct={dead}")
    assert result.ret == 8
    result.stdout.fnmatch_lines([f"*device error*: the exporter at {dead} (--jmp-direct) does not answer: *refused*"])


def test_labels_that_contradict(here: pytest.Pytester, plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that, by the environment's word, is not the one that is asked for gets no test."""
    monkeypatch.setenv("JMP_EXPORTER", "alone")
    monkeypatch.setenv("JMP_EXPORTER_LABELS", "board=rpi4,can=true")
    args = [f"--jmp-direct=grpc://{plain}"]
    words = (
        f"'dut' asks for board=rpi5 (--jmp-selector), but {plain} (--jmp-direct) has exporter alone with board=rpi4, "
        "can=true: board=rpi5 does not hold"
    )
    refused(here, words, *args, "--jmp-selector=board=rpi5")
    here.runpytest(*args, "--jmp-selector=board=rpi4", "--jmp-exporter=alone").assert_outcomes(passed=1, warnings=0)


def test_one_device_is_all_there_is(here: pytest.Pytester, plain: str) -> None:
    """A second role is refused when it is asked for, be it at once or later."""
    here.makeconftest("from pytest_jumpstarter import device_fixture\ngateway = device_fixture()")
    here.makepyfile("def test_first(dut): dut.power.on()\ndef test_second(gateway): gateway.power.on()")
    args = [f"--jmp-direct=grpc://{plain}", "--jmp-scope=function"]
    message = (
        f"{plain} (--jmp-direct) is a single device and 'dut' uses it, so there is none for 'gateway'; to use several *"
    )
    result = here.runpytest(*args)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([message])
    here.makepyfile("def test_both(dut, gateway): pass")
    refused(here, message, *args)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--jmp-direct=board"], "--jmp-direct: 'board' is not HOST:PORT, or grpc://HOST:PORT for plain text"),
        (["--jmp-direct=https://board:1"], "--jmp-direct: 'https://board:1' is not HOST:PORT, *"),
        (
            ["--jmp-direct=grpc://b:1", "--jmp-direct-ca=x"],
            "--jmp-direct-ca: grpc://b:1 (--jmp-direct) uses plain text, *",
        ),
        (
            ["--jmp-direct-ca=x"],
            "--jmp-direct-ca: it needs --jmp-direct, which is not set",
        ),
        (["--jmp-direct=b:1", "--jmp-lease=x"], "--jmp-lease: with --jmp-direct there is no lab controller, *"),
        (["--jmp-direct=b:1", "--jmp-each=x"], "--jmp-each: with --jmp-direct there is no lab controller, *"),
        (
            ["--jmp-direct=b:1", "--jmp-hold-on-failure=1h"],
            "--jmp-hold-on-failure: with --jmp-direct there is no lease *",
        ),
    ],
    ids=["no port", "https", "authority of plain text", "authority of nothing", "lease", "each", "hold"],
)
def test_options_that_make_no_sense(here: pytest.Pytester, args: list[str], message: str) -> None:
    """What cannot be, or not together, ends the run before it begins."""
    result = here.runpytest(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_exporter_that_goes_away(here: pytest.Pytester, running_exporter: RunningExporter, tmp_path: Path) -> None:
    """An exporter that ends during a test is a device error for that test and those after it, not their failure."""
    here.makepyfile(
        """
        from pathlib import Path

        def test_cut_off(dut):
            print("DRIVING")
            while not Path("gone").exists():
                dut.power.on()

        def test_after(dut):
            dut.power.on()
        """
    )
    with ExitStack() as stack:
        with serving(running_exporter, tmp_path, "--tls-grpc-insecure") as address:
            process = stack.enter_context(running(here, f"--jmp-direct=grpc://{address}", "--jmp-retries=1"))
            wait_for(process.stdout, "DRIVING")
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 8, output
    assert "2 device errors" in output
    assert f"exporter {address} does not answer" in output


@pytest.mark.parametrize("passphrase", ["two\nlines", "sésame", "tab\t"])
def test_passphrase_that_cannot_be_sent(
    here: pytest.Pytester, plain: str, monkeypatch: pytest.MonkeyPatch, passphrase: str
) -> None:
    """A passphrase that gRPC cannot send is a configuration error that names the variable."""
    monkeypatch.setenv("JMP_GRPC_PASSPHRASE", passphrase)
    message = "JMP_GRPC_PASSPHRASE must be printable ASCII, in one line: gRPC sends nothing else"
    refused(here, message, f"--jmp-direct=grpc://{plain}")

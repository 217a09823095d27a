"""`dut.env()`: a process that a test starts, such as a real `j`, reaches the device in each mode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from jumpstarter_driver_composite.driver import Composite
from jumpstarter_driver_power.driver import MockPower
from standalone import PASSPHRASE, RunningExporter, serving, serving_drivers

from pytest_jumpstarter.client.v1 import Lease

SUITE = """
    import os, subprocess

    def run(dut, *command):
        done = subprocess.run(command, env=dut.env(), capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def test_j(dut):
        for _ in range(2):
            assert run(dut, "j", "power", "on") == (0, "")
        dut.power.off()
        assert run(dut, "j", "no-such-driver")[0] != 0
"""


@pytest.fixture
def with_j(jmp: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a folder whose suite runs `j`."""
    monkeypatch.setenv("PATH", str(jmp.parent), prepend=":")
    pytester.makepyfile(SUITE)
    return pytester


def test_with_a_lease(
    with_j: pytest.Pytester, suite: pytest.Pytester, active_leases: Callable[[], list[Lease]]
) -> None:
    """The variables are those of `jmp shell`; the socket is gone when the device is released; no harm is done."""
    with_j.makeconftest(
        """
        import os, pytest

        def pytest_jumpstarter_lease_released():
            assert not os.path.exists(host[0])
            print("SOCKET GONE")

        host = []
        """
    )
    with_j.makepyfile(
        test_more="""
        import os, pytest
        from conftest import host

        def test_variables(dut, monkeypatch):
            monkeypatch.setenv("JMP_LEASE", "another")
            monkeypatch.setenv("JMP_GRPC_INSECURE", "1")
            environ = dut.env()
            assert environ["JMP_LEASE"] == dut.lease.name and "JMP_GRPC_INSECURE" not in environ
            assert environ["JMP_EXPORTER"] == dut.exporter.name == "board-1"
            assert environ["JMP_EXPORTER_LABELS"] == ",".join(f"{k}={v}" for k, v in dut.exporter.labels.items())
            assert environ["HOME"] == os.environ["HOME"]
            host.append(environ["JUMPSTARTER_HOST"])
            assert os.path.exists(host[0]) and dut.env()["JUMPSTARTER_HOST"] == host[0]
        """
    )
    result = with_j.runpytest_subprocess("-s")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*SOCKET GONE"])
    assert active_leases() == []


def test_a_process_that_is_killed_breaks_nothing(suite: pytest.Pytester) -> None:
    """A failure of the product stays one, although a process that used the device was killed in the middle."""
    suite.makepyfile(
        """
        import subprocess, sys, time

        HANG = '''
        from jumpstarter.utils.env import env
        with env() as client:
            with client.console.stream() as stream:
                print("open", flush=True)
                stream.receive()
                import time; time.sleep(60)
        '''

        def test_it(dut):
            program = "\\n".join(line[8:] for line in HANG.splitlines())
            with subprocess.Popen([sys.executable, "-c", program], env=dut.env(), stdout=subprocess.PIPE) as process:
                assert process.stdout.readline() == b"open\\n"
                process.kill()
            dut.console().expect("never said", timeout=0.5)
        """
    )
    result = suite.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    assert result.ret == 1
    result.stdout.no_fnmatch_line("*DEVICE ERROR*")


def test_after_the_release(suite: pytest.Pytester) -> None:
    """It raises what every other use raises."""
    suite.makepyfile(
        """
        import pytest
        from pytest_jumpstarter.errors import DeviceReleased

        @pytest.fixture(scope="session")
        def kept():
            kept = []
            yield kept
            with pytest.raises(DeviceReleased):
                kept[0].env()

        def test_it(kept, dut):
            kept.append(dut)
        """
    )
    suite.runpytest().assert_outcomes(passed=1)


@pytest.mark.parametrize("is_secured", [True, False], ids=["TLS and passphrase", "plain text"])
def test_without_a_lab(
    with_j: pytest.Pytester,
    running_exporter: RunningExporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_secured: bool,
) -> None:
    """With `--jmp-direct`, `j` gets the address, and the certificate authority if one is given."""
    options, ours = ["--tls-grpc-insecure"], []
    if is_secured:
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
        authority.cert_pem.write_to_path(str(with_j.path / "ca.pem"))
        monkeypatch.setenv("JMP_GRPC_PASSPHRASE", PASSPHRASE)
        options = ["--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")]
        options += ["--passphrase", PASSPHRASE]
        ours = ["--jmp-direct-ca=ca.pem"]
    with serving(running_exporter, tmp_path, *options) as address:
        scheme = "" if is_secured else "grpc://"
        with_j.runpytest_subprocess(f"--jmp-direct={scheme}{address}", *ours).assert_outcomes(passed=1)


def test_in_a_shell(with_j: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of the shell are passed on as they are."""
    with_j.makepyfile(
        test_more="""
        import os
        def test_variables(dut):
            environ = dut.env()
            assert {name: environ.get(name) for name in os.environ} == dict(os.environ) | {"PATH": environ["PATH"]}
        """
    )
    board = cast(Any, Composite)(children={"power": cast(Any, MockPower)()})
    with serving_drivers(board) as path:
        monkeypatch.setenv("JUMPSTARTER_HOST", path)
        monkeypatch.setenv("JMP_DRIVERS_ALLOW", "UNSAFE")
        with_j.runpytest_subprocess().assert_outcomes(passed=2)

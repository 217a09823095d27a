"""`--jmp-check` on situations in which no test could run: what is wrong, and what to do, before anything is leased."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import jwt
import pytest
import trustme
import yaml

from pytest_jumpstarter.client.v1 import Client
from pytest_jumpstarter.lab import Lab

DUT = "def test_it(dut): raise SystemExit('a test ran')"


def check(suite: pytest.Pytester, *args: str) -> str:
    """Run the check, see that it fails, and return its words as one line; no line of them is too long."""
    result = suite.runpytest("--jmp-check", *args)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes()
    start = next(i for i, line in enumerate(result.outlines) if "= jumpstarter check =" in line)
    lines = result.outlines[start:]
    assert [line for line in lines if len(line) > 80 and " " in line.strip()] == []
    return re.sub(r"\s+", " ", "\n".join(lines))


@pytest.mark.parametrize(
    ("device", "says"),
    [
        (
            "device_fixture(selector='board=virtul')",
            "dut: no exporter matches board=virtul (device_fixture of dut); did you mean board=virtual (2)?",
        ),
        (
            "device_fixture(selector='bord=virtual,kind=dut')",
            "dut: no exporter matches bord=virtual,kind=dut (*); no exporter has a label 'bord', did you mean 'board'?",
        ),
        (
            "device_fixture(exporter='board-7')",
            "dut: there is no exporter board-7 (device_fixture of dut); the lab has board-*",
        ),
        (
            "device_fixture(selector='board=absent')",
            "dut: no exporter that matches board=absent (*) is online: 1 offline (nobody-1); start `jmp run` *",
        ),
        (
            "device_fixture()",
            "dut: nothing says which exporter 'dut' needs; give --jmp-selector, --jmp-exporter or --jmp-lease *",
        ),
        (
            "device_fixture(selector='board=mock')\nmore = device_fixture(selector='board in (mock)')",
            "dut (board=mock) and more (board in (mock)) are leased together and need 2 boards at once, "
            "but the matching boards are too few: mock-1; add boards, or use fewer devices in one test",
        ),
        (
            "device_fixture(selector='board=mock')\npytestmark = pytest.mark.jumpstarter(labels='can=true')",
            "dut: no exporter for board=mock matches can=true, which the marker requires, so the test is always *",
        ),
    ],
    ids=["value", "label", "name", "offline", "no wish", "too few for two", "marker"],
)
def test_what_the_lab_does_not_have(pytester: pytest.Pytester, lab: Lab, device: str, says: str) -> None:
    """What no wait would bring is told for each test, with the nearest thing that there is."""
    pytester.makepyfile(
        "import pytest\nfrom pytest_jumpstarter import device_fixture\n"
        f"dut = {device}\n"
        f"def test_it({'dut, more' if 'more =' in device else 'dut'}): raise SystemExit('a test ran')\n"
        "def test_other(): pass"
    )
    words = check(pytester, f"--jmp-client={lab.client_config}")
    file = "test_what_the_lab_does_not_have.py"
    assert fnmatchcase(
        words, f"*answer 7 exporters; two calls took * ms * {says.replace('[', '[[]')}*{file}::test_it *"
    ), words
    assert "tests that need devices: 1; 1 cannot get theirs" in words
    assert f"{file}::test_other" not in words


def expired(lab: Lab) -> str:
    """Return a token like the lab's own that ran out long ago; who signed it is nothing to the one who reads it."""
    token = yaml.safe_load(lab.client_config.read_text())["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims | {"exp": 1_600_000_000}, "k" * 32)


ACCESS: dict[str, tuple[Callable[[Lab, str], dict[str, object]], str]] = {
    "nobody listens": (
        lambda lab, dead: {"endpoint": dead},
        "the connection was refused (*check that the lab controller runs, and host and port of the endpoint in *",
    ),
    "no such host": (
        lambda lab, dead: {"endpoint": "lab.invalid:8082"},
        "the host name lab.invalid cannot be resolved (*check the endpoint in *",
    ),
    "another authority": (
        lambda lab, dead: {"tls": {"ca": b64encode(trustme.CA().cert_pem.bytes()).decode()}},
        "TLS trusts tls.ca *its TLS certificate is not trusted (*put the certificate of its CA into tls.ca of *",
    ),
    "expired token": (
        lambda lab, dead: {"token": expired(lab)},
        "token ✗ expired on 2020-09-13 *; run `jmp login`, or put a new one where it came from * "
        "error ✗ *run `jmp login`, or put a new token where it came from: *",
    ),
    "token of another client": (
        lambda lab, dead: {"metadata": {"namespace": "lab", "name": "other"}},
        "the token belongs to another client (*check namespace, name and token in *",
    ),
    "no driver allowed": (
        lambda lab, dead: {"drivers": {"allow": []}},
        "no driver client is allowed: drivers.allow of client config * is empty; add jumpstarter_driver_*",
    ),
}


@pytest.mark.parametrize("situation", ACCESS)
def test_no_way_to_the_lab(
    suite: pytest.Pytester, lab: Lab, config: Callable[..., Path], dead: str, situation: str
) -> None:
    """What keeps a run from the lab is told with what to do, after what was found so far."""
    suite.makepyfile(DUT)
    change, says = ACCESS[situation]
    words = check(suite, f"--jmp-client={config(**change(lab, dead))}", "--jmp-wait=1s")
    assert fnmatchcase(
        words,
        "*python 3.* versions pytest-jumpstarter * drivers installed: * jmp * client * "
        f"{says}tests that need devices: 1; 1 cannot get theirs *",
    ), words


def test_a_proxy_that_is_not_there(
    suite: pytest.Pytester, config: Callable[..., Path], dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy is named, and where it was set."""
    suite.makepyfile(DUT)
    monkeypatch.setenv("https_proxy", f"http://{dead}")
    words = check(suite, f"--jmp-client={config(endpoint='lab.example.com:8082')}", "--jmp-wait=1s")
    proxy = f"proxy http://{dead} (https_proxy in the environment)"
    assert fnmatchcase(words, f"*lab lab.example.com:8082, through {proxy} *error *{proxy}*the connection was refused*")


def test_no_config_at_all(suite: pytest.Pytester) -> None:
    """Where nothing is configured, the ways to a device are listed."""
    suite.makeini("[pytest]")
    suite.makepyfile(DUT)
    assert "error ✗ no source of devices is configured. Five ways: pytest --jmp-lab=FILE " in check(suite)


def test_lease_of_somebody_else(suite: pytest.Pytester, lab: Lab) -> None:
    """An existing lease that is not ours to use is told; it is left to whose it is."""
    suite.makepyfile(DUT)
    with Client.from_config(lab.config_dir / "clients" / "other.yaml") as other:
        lease = other.create_lease(lease_id="others-own", selector="board=mock", duration=60)
        words = check(suite, "--jmp-lease=others-own", "--jmp-selector=board=mock")
        other.delete_lease(lease.name)
    assert "dut: lease others-own (--jmp-lease) belongs to client 'other', not to 'default' " in words

"""`pytest_jumpstarter_client`: bring your own client of the lab controller."""

from __future__ import annotations

import pytest

from pytest_jumpstarter.lab import Lab

TESTS = """
    def test_it(dut, jumpstarter):
        dut.power.on()
        assert jumpstarter.client.is_mine
"""

OWN = """
    from pytest_jumpstarter.client.v1 import Client, ClientConfig

    class Own(Client):
        is_mine, calls = True, 0

        def send(self, request):
            self.calls += 1
            return super().send(request)

        def close(self):
            raise RuntimeError("closed by somebody else")

    made = []

    def pytest_jumpstarter_client(config):
        assert config.rootpath
        made.append({make})
        return made[-1]

    def pytest_unconfigure():
        print("MADE", len(made), "CALLED", made[0].calls > 4, "RENEWED BY", made[0].renew)
        for each in made:
            Client.close(each)
"""


def test_own_client(suite: pytest.Pytester, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """All calls go by the client that was brought, made once from a config, and nobody else closes it."""
    suite.makeini("[pytest]\njmp_selector = kind=dut\n")
    suite.makeconftest(OWN.replace("{make}", f'Own.from_config("{lab.client_config}")'))
    suite.makepyfile(TESTS)
    result = suite.runpytest("-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["MADE 1 CALLED True RENEWED BY <function LabAccess.*"])
    result = suite.runpytest("-s", "--jmp-check")
    result.stdout.fnmatch_lines(["client    default in namespace lab, from client config*", "*1; all can get theirs"])


def test_own_client_of_parts(suite: pytest.Pytester, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was made without a config has the environment's word on drivers; it renews its token as it likes."""
    suite.makeini("[pytest]\njmp_selector = kind=dut\n")
    make = (
        f"(lambda c: Own(c.endpoint, token=c.token, namespace=c.namespace, name=c.name, ca=c.tls.ca))"
        f'(ClientConfig.load("{lab.client_config}"))'
    )
    suite.makeconftest(OWN.replace("{make}", make).replace("return made[-1]", "made[-1].renew = str; return made[-1]"))
    suite.makepyfile(TESTS)
    result = suite.runpytest("-s")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*which JMP_DRIVERS_ALLOW in the environment does not allow; add it there *"])
    monkeypatch.setenv("JMP_DRIVERS_ALLOW", "jumpstarter_driver_*")
    result = suite.runpytest("-s")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["MADE 1 CALLED True RENEWED BY <class 'str'>"])


def test_what_is_no_client(suite: pytest.Pytester) -> None:
    """What a hook returns by mistake is told by its name; None means the client of the config."""
    suite.makepyfile("def test_it(dut): dut.power.on()")
    suite.makeconftest("def pytest_jumpstarter_client(): return 'token'")
    result = suite.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["hook pytest_jumpstarter_client returned 'token', which is not a Client"])
    suite.makeconftest("def pytest_jumpstarter_client(): return None")
    suite.runpytest().assert_outcomes(passed=1)

"""The way to the lab controller: tokens, endpoints, proxies, certificates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_jumpstarter.lab import Lab

from .runs import one_error


def test_wrong_token(suite: pytest.Pytester, config: Callable[..., Path]) -> None:
    """A token that the lab did not make names the config to mend."""
    file = config(token="not-a-token-of-this-lab")
    said = one_error(suite, f"--jmp-client={file}")
    assert "the token is not accepted" in said
    assert f"run `jmp login`, or put a new token where it came from: client config {file}" in said


def test_expired_token(suite: pytest.Pytester, tmp_path: Path) -> None:
    """A token that has run out is called that, with the time it did."""
    file = tmp_path / "lab.yaml"
    file.write_text("metadata: {name: nobody-1, labels: {kind: dut}}\n")
    with Lab([file], arguments=["--token-lifetime", "0s"]) as lab:
        said = one_error(suite, f"--jmp-client={lab.client_config}")
    assert said.startswith(f"CreateLease at {said.split()[2]} the token has expired")
    assert "token is expired (Token Expiry: " in said
    assert "run `jmp login`, or put a new token where it came from: client config " in said


def test_token_of_another_client(suite: pytest.Pytester, config: Callable[..., Path]) -> None:
    """A token that is good for another client names what to check."""
    file = config(metadata={"namespace": "lab", "name": "somebody"})
    assert f"check namespace, name and token in client config {file}" in one_error(suite, f"--jmp-client={file}")


def test_endpoint_is_down(suite: pytest.Pytester, config: Callable[..., Path], dead: str) -> None:
    """An endpoint where nothing listens is named, with the config it is from."""
    file = config(endpoint=dead)
    said = one_error(suite, f"--jmp-client={file}", "--jmp-wait=1s")
    assert said.startswith(f"CreateLease at {dead}: the connection was refused")
    assert f"check that the lab controller runs, and host and port of the endpoint in client config {file}" in said


def test_endpoint_behind_a_dead_proxy(
    suite: pytest.Pytester, config: Callable[..., Path], dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy on the way that does not answer is named, with the variable that sets it."""
    monkeypatch.setenv("https_proxy", f"http://{dead}")
    file = config(endpoint="lab.example.com:8082")
    said = one_error(suite, f"--jmp-client={file}", "--jmp-wait=1s")
    assert said.startswith(
        f"CreateLease at lab.example.com:8082 through proxy http://{dead} (https_proxy in the environment): "
    )
    assert "check the proxy, or name lab.example.com in no_proxy" in said


def test_certificate_for_another_host(suite: pytest.Pytester, config: Callable[..., Path]) -> None:
    """A certificate that is not for the host in the endpoint is called that."""
    file = config(grpcOptions={"grpc.ssl_target_name_override": "lab.example.com"})
    said = one_error(suite, f"--jmp-client={file}")
    assert "its TLS certificate is for another host than 127.0.0.1" in said
    assert f"use the host name of the certificate in the endpoint in client config {file}" in said

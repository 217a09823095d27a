"""The client config: found and read as Jumpstarter does it, and every way it can be broken."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme

from pytest_jumpstarter.client.v1 import Client, ClientConfig
from pytest_jumpstarter.client.v1.config import config_home
from pytest_jumpstarter.client.v1.config_table import Environment
from pytest_jumpstarter.errors import ClientConfigError

from .controller import TOKEN

HEAD = "apiVersion: jumpstarter.dev/v1alpha1\nkind: ClientConfig\n"
FULL = f"{HEAD}metadata: {{namespace: lab, name: ci}}\nendpoint: lab.example:8082\ntoken: {TOKEN}\n"
WHO = {"JMP_NAMESPACE": "lab", "JMP_NAME": "env"}
ENOUGH = {**WHO, "JMP_ENDPOINT": "env.example:1", "JMP_TOKEN": "env-token"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return the config folder of a user with clients `ci` and `nightly`, of which `ci` is current."""
    folder = tmp_path / "jumpstarter"
    (folder / "clients").mkdir(parents=True)
    (folder / "clients" / "ci.yaml").write_text(FULL)
    (folder / "clients" / "nightly.yaml").write_text(FULL.replace("name: ci", "name: nightly"))
    (folder / "config.yaml").write_text("kind: UserConfig\nconfig: {current-client: ci}\n")
    return folder


def load(home: Path, source: str | Path | None = None, **variables: str) -> ClientConfig:
    """Load with that config folder and these variables, and nothing else."""
    return ClientConfig.load(source, environ={"JMP_CLIENT_CONFIG_HOME": str(home), **variables})


def refusal(home: Path, source: str | Path | None = None, **variables: str) -> str:
    """Return why it cannot be loaded: one line, without a token."""
    with pytest.raises(ClientConfigError) as caught:
        load(home, source, **variables)
    said = str(caught.value)
    assert "\n" not in said
    assert TOKEN not in said
    error: BaseException | None = caught.value
    while error is not None:  # nor in what a traceback would show of it
        assert TOKEN not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return said


def test_current_client(home: Path) -> None:
    """With nothing said, the current client of the user config is used."""
    config = load(home)
    assert (config.endpoint, config.token, config.namespace, config.name) == ("lab.example:8082", TOKEN, "lab", "ci")
    assert config.path == home / "clients" / "ci.yaml"
    assert config.source == f"client config {config.path} (current client)"


def test_endpoint_of_the_environment_is_shown(home: Path) -> None:
    """What comes from the environment is hidden where it may be a secret; an endpoint and a name are none."""
    config = load(home, **ENOUGH)
    assert (repr(config.endpoint), repr(config.name), repr(config.token)) == ("'env.example:1'", "'env'", "'***'")
    assert "'http://lab'" in refusal(home, **ENOUGH | {"JMP_ENDPOINT": "http://lab"})


def test_variable_that_nobody_reads(home: Path) -> None:
    """JMP_CLIENT_CONFIG is in Jumpstarter's documentation, but `jmp` does not read it; neither do we, and we say so."""
    config = load(home, JMP_CLIENT_CONFIG="/else/where.yaml")
    note = "JMP_CLIENT_CONFIG is not read, by jmp neither"
    assert config.source == f"client config {config.path} (current client; {note})"
    (home / "config.yaml").unlink()
    assert refusal(home, JMP_CLIENT_CONFIG="/else/where.yaml").endswith(f"; {note}")


def test_alias(home: Path) -> None:
    """A bare name is the alias of a client."""
    config = load(home, "nightly")
    assert config.name == "nightly"
    assert config.source == f"client config {home}/clients/nightly.yaml (client nightly)"


def test_path(home: Path, tmp_path: Path) -> None:
    """A Path, and a text with a folder or `.yaml` in it, is a file."""
    file = tmp_path / "other.yaml"
    file.write_text(FULL.replace("name: ci", "name: other"))
    for source in (file, str(file)):
        config = load(home, source)
        assert (config.name, config.path, config.source) == ("other", file, f"client config {file}")


def test_environment_alone(home: Path) -> None:
    """JMP_NAMESPACE and JMP_NAME in the environment win over the current client; no file is read."""
    (home / "config.yaml").write_text("[broken")
    config = load(home, **ENOUGH)
    assert (config.endpoint, config.token, config.name, config.path) == ("env.example:1", "env-token", "env", None)
    assert config.source == "JMP_* variables in the environment"


@pytest.mark.parametrize("missing", ["JMP_ENDPOINT", "JMP_TOKEN"])
def test_environment_that_does_not_suffice(home: Path, missing: str) -> None:
    """Namespace and name decide for the environment, as with Jumpstarter; what then lacks is named."""
    variables = {name: value for name, value in ENOUGH.items() if name != missing}
    assert f"but {missing} is not set; set it too, or unset those two" in refusal(home, **variables)


def test_xdg_and_home(tmp_path: Path, home: Path) -> None:
    """Without JMP_CLIENT_CONFIG_HOME the folder is in XDG_CONFIG_HOME, else in ~/.config."""
    assert ClientConfig.load(environ={"XDG_CONFIG_HOME": str(tmp_path)}).name == "ci"
    (tmp_path / ".config").mkdir()
    home.rename(tmp_path / ".config" / "jumpstarter")
    assert ClientConfig.load(environ={"HOME": str(tmp_path)}).name == "ci"
    assert ClientConfig.load(environ={"HOME": str(tmp_path), "XDG_CONFIG_HOME": "relative"}).name == "ci"


def test_nothing_is_written(tmp_path: Path) -> None:
    """Looking for a config makes no file and no folder."""
    home = tmp_path / "jumpstarter"
    assert f"{home}/config.yaml does not exist" in refusal(home)
    assert list(tmp_path.iterdir()) == []


def test_tokens_are_hidden(home: Path) -> None:
    """The token is in no repr of the config, and its own repr is not it."""
    for config in (load(home), ClientConfig(endpoint="h:1", token=TOKEN, namespace="lab", name="ci")):
        assert TOKEN not in repr(config)
        assert repr(config.token) == "'***'"
        assert config.token == TOKEN


def test_a_client_from_it(home: Path, authority: trustme.CA) -> None:
    """A client takes endpoint, identity and TLS from the config."""
    ca = base64.b64encode(authority.cert_pem.bytes()).decode()
    (home / "clients" / "ci.yaml").write_text(f"{FULL}tls: {{ca: {ca}}}\n")
    client = Client.from_config(load(home))
    assert (client.endpoint, client.namespace, client.name) == ("lab.example:8082", "lab", "ci")
    assert client.tls.ca == authority.cert_pem.bytes()


@pytest.mark.parametrize("variable", ["JMP_GRPC_INSECURE", "JUMPSTARTER_GRPC_INSECURE"])
def test_insecure_by_environment(home: Path, variable: str) -> None:
    """The variables that make Jumpstarter skip verification are honoured, for `1` alone."""
    assert load(home, **{variable: "1"}).tls.insecure
    assert not load(home, **{variable: "0"}).tls.insecure


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a ClientConfig: it is not a mapping"),
        ("[1, 2]", "is not a ClientConfig: it is not a mapping"),
        (f"token: {TOKEN}\n  : [", "is not YAML at line 2, column "),
        (f"token: '{TOKEN}\n", "is not YAML at line "),
        ("token: \t@", "is not YAML at line 1, column 8"),
        (f"{HEAD}token: !!python/object:os.system {TOKEN}\n", "is not YAML at line 3"),
        (
            FULL.replace("kind: ClientConfig", "kind: ExporterConfig"),
            "its kind is 'ExporterConfig', not 'ClientConfig'",
        ),
        (FULL.replace("v1alpha1", "v2"), "its apiVersion is 'jumpstarter.dev/v2', not 'jumpstarter.dev/v1alpha1'"),
        (FULL.replace("endpoint", "endpunkt"), "endpoint is missing in "),
        (FULL.replace("token:", "tokken:"), "token is missing in "),
        (f"{FULL}endpoint: null\n", "endpoint is missing in "),
        (FULL.replace("namespace: lab, ", ""), "metadata.namespace is missing in "),
        (FULL.replace("{namespace: lab, name: ci}", "ci"), "metadata in {file} must be a mapping, not str"),
        (FULL.replace("lab.example:8082", "https://lab.example:8082"), "is not HOST:PORT"),
        (FULL.replace("lab.example:8082", "5"), "endpoint in {file} must be text, not int"),
        (FULL.replace(TOKEN, "[1]"), "token in {file} is not a token"),
        (FULL.replace(TOKEN, "a b"), "token in {file} is not a token: it must be printable ASCII without spaces"),
        (f"{FULL}tls: {{ca: '%%%'}}\n", "tls.ca in {file} is not a certificate"),
        (f"{FULL}tls: {{ca: abcde}}\n", "tls.ca in {file} is not base64"),
        (f"{FULL}tls: {{ca: {base64.b64encode(b'hello').decode()}}}\n", "tls.ca in {file} is not a certificate"),
        (f"{FULL}tls: {{insecure: perhaps}}\n", "tls.insecure in {file} must be true or false, not str"),
        (f"{FULL}tls:\n", "tls in {file} must be a mapping, not NoneType"),
        (f"{FULL}drivers: {{allow: 5}}\n", "drivers.allow in {file} must be a list of texts, not int"),
        (f"{FULL}grpcOptions: {{a: [1]}}\n", "grpcOptions.a in {file} must be text or a whole number, not list"),
    ],
)
def test_broken_files(home: Path, text: str, said: str) -> None:
    """A file that cannot be used is named, with the field or line, and never quoted."""
    file = home / "clients" / "ci.yaml"
    file.write_text(text)
    message = refusal(home, file)
    assert said.format(file=file) in message
    assert str(file) in message


def test_binary_and_unreadable_files(home: Path) -> None:
    """A file that is no text, or no file, is named."""
    file = home / "clients" / "ci.yaml"
    file.write_bytes(b"\xff\xfe\x00token: x")
    assert f"{file} is not YAML: it is not text in UTF-8" in refusal(home)
    file.unlink()
    file.mkdir()
    assert f"{file} cannot be read: Is a directory" in refusal(home)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"JMP_TLS": "{"}, "JMP_TLS in the environment is not JSON"),
        ({"JMP_TLS": "[]"}, "JMP_TLS in the environment is not a JSON object"),
        ({"JMP_DRIVERS_UNSAFE": "perhaps"}, "JMP_DRIVERS_UNSAFE in the environment must be true or false"),
        ({"JMP_ENDPOINT": "lab"}, None),
        ({"JMP_ENDPOINT": "http://lab"}, "is not HOST:PORT"),
        ({"JMP_TOKEN": f"{TOKEN} "}, "JMP_TOKEN in the environment is not a token"),
    ],
)
def test_broken_variables(home: Path, variables: dict[str, str], said: str | None) -> None:
    """A variable with a wrong value is named."""
    if said is None:
        assert load(home, **{**ENOUGH, **variables}).endpoint == variables["JMP_ENDPOINT"]
    else:
        assert said in refusal(home, **{**ENOUGH, **variables})


def test_a_missing_client_lists_those_that_exist(home: Path) -> None:
    """An unknown alias or file lists the aliases there are."""
    for source in ("weekly", Path("/nowhere/x.yaml"), "./x.yaml"):
        assert f"the clients in {home}/clients are ci, nightly" in refusal(home, source)
    (home / "config.yaml").write_text("kind: UserConfig\nconfig: {current-client: gone}\n")
    said = refusal(home)
    assert f"current-client of {home}/config.yaml is 'gone', but {home}/clients/gone.yaml does not exist" in said
    assert "are ci, nightly" in said


@pytest.mark.parametrize(
    "text", ["kind: UserConfig\n", "kind: UserConfig\nconfig: {current-client: null}\n", "config: 5\n"]
)
def test_no_current_client(home: Path, text: str) -> None:
    """A user config without a current client says so and lists the ways out."""
    (home / "config.yaml").write_text(text)
    said = refusal(home)
    assert f"{home}/config.yaml names no current-client" in said
    assert "JMP_ENDPOINT, JMP_TOKEN, JMP_NAMESPACE and JMP_NAME" in said


# Parity: what Jumpstarter's own code makes of the same files and variables.

BARE = f"{HEAD}metadata: {{namespace: lab, name: ci}}\n"
CASES: list[tuple[str, str, dict[str, str]]] = [
    ("full file", FULL, {}),
    ("file beats environment", FULL, ENOUGH),
    ("gaps from environment", BARE, {"JMP_TOKEN": "t", "JMP_ENDPOINT": "e:1"}),
    ("lower-case variables", BARE, {"jmp_token": "t", "Jmp_Endpoint": "e:1"}),
    ("metadata from environment", "endpoint: e:1\ntoken: t\n", WHO),
    ("half the metadata", "metadata: {name: x}\nendpoint: e:1\ntoken: t\n", WHO),
    ("metadata as JSON", "endpoint: e:1\ntoken: t\n", {"JMP_METADATA": '{"namespace":"x"}', "JMP_NAME": "y"}),
    ("drivers in the file", f"{FULL}drivers: {{allow: [a.*, b], unsafe: false}}\n", {"JMP_DRIVERS_UNSAFE": "1"}),
    ("half the drivers", f"{FULL}drivers: {{unsafe: true}}\n", {"JMP_DRIVERS_ALLOW": "q,r"}),
    ("drivers from variables", FULL, {"JMP_DRIVERS_ALLOW": "a,b, c", "JMP_DRIVERS_UNSAFE": "no"}),
    ("drivers as JSON", f"{FULL}drivers: {{allow: []}}\n", {"JMP_DRIVERS": '{"allow":["k"],"unsafe":true}'}),
    ("UNSAFE in the list", FULL, {"JMP_DRIVERS_ALLOW": "UNSAFE"}),
    ("UNSAFE beats unsafe", f"{FULL}drivers: {{allow: [UNSAFE], unsafe: 'off'}}\n", {}),
    ("allow as text", f"{FULL}drivers: {{allow: 'a,b'}}\n", {}),
    ("empty allow", FULL, {"JMP_DRIVERS_ALLOW": ""}),
    ("tls merged", f"{FULL}tls: {{insecure: 'on'}}\n", {"JMP_TLS": '{"ca":"@CA@"}'}),
    ("tls of the file", f"{FULL}tls: {{ca: '@CA@', insecure: false}}\n", {"JMP_TLS": '{"insecure":true}'}),
    ("options merged", f"{FULL}grpcOptions: {{a: 1}}\n", {"JMP_GRPCOPTIONS": '{"a":2,"b":"c"}'}),
    ("options null", f"{FULL}grpcOptions:\n", {}),
    (
        "other tables",
        f"{FULL}shell: {{use_profiles: true}}\nleases: {{acquisition_timeout: 9}}\nrefresh_token: r\n",
        {},
    ),
    ("environment alone", "", ENOUGH),
    ("environment with tables", "", {**ENOUGH, "JMP_TLS": '{"insecure":true}', "JMP_GRPCOPTIONS": '{"a":1}'}),
]

CHOICES: list[dict[str, str]] = [{}, {"JMP_NAME": "x"}, WHO, {"JMP_METADATA": '{"namespace":"a","name":"b"}'}]

# One process for all cases, and not this one: Jumpstarter is heavy, and must see no variables but the case's.
THEIRS = """
import json, os, sys
from jumpstarter.config.client import ClientConfigV1Alpha1
found = []
for text, variables in json.load(sys.stdin):
    os.environ.clear()
    os.environ.update(variables)
    if text:
        with open(sys.argv[1], "w") as file:
            file.write(text)
    config = ClientConfigV1Alpha1.from_file(sys.argv[1]) if text else ClientConfigV1Alpha1.try_from_env()
    found.append(config and config.model_dump(mode="json"))
print(json.dumps(found))
"""


def with_ca(authority: trustme.CA, case: tuple[str, str, dict[str, str]]) -> tuple[str, dict[str, str]]:
    """Return file and variables of a case with a real CA in them."""
    ca = base64.b64encode(authority.cert_pem.bytes()).decode()
    _, text, variables = case
    return text.replace("@CA@", ca), {name: value.replace("@CA@", ca) for name, value in variables.items()}


@pytest.fixture(scope="module")
def theirs(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Return what Jumpstarter makes of each of CASES, then of each of CHOICES."""
    cases = [*(with_ca(authority, case) for case in CASES), *(("", variables) for variables in CHOICES)]
    file = tmp_path_factory.mktemp("theirs") / "c.yaml"
    found: list[Any] = json.loads(run_python(THEIRS, [str(file)], {}, json.dumps(cases)))
    return found


@pytest.mark.parametrize("index", range(len(CASES)), ids=[case[0] for case in CASES])
def test_same_as_jumpstarter(tmp_path: Path, authority: trustme.CA, theirs: list[Any], index: int) -> None:
    """From the same file and variables we read what Jumpstarter reads."""
    text, variables = with_ca(authority, CASES[index])
    file = tmp_path / "c.yaml"
    file.write_text(text)
    ours, their = ClientConfig.load(file if text else None, environ=variables), theirs[index]
    assert (ours.endpoint, ours.token) == (their["endpoint"], their["token"])
    assert {"namespace": ours.namespace, "name": ours.name} == their["metadata"]
    assert {"allow": list(ours.driver_allow), "unsafe": ours.driver_unsafe} == their["drivers"]
    assert ours.grpc_options == (their["grpcOptions"] or {})
    assert ours.tls.insecure == their["tls"]["insecure"]
    assert ours.tls.ca == (base64.b64decode(their["tls"]["ca"]) or None)


@pytest.mark.parametrize(
    ("lines", "variables", "seconds"),
    [
        ("", {}, None),
        ("leases: {dial_timeout: 60}", {}, 60.0),
        ("leases: {dial_timeout: 60}", {"JMP_DIAL_TIMEOUT": "90.5"}, 90.5),
        ("", {"JMP_LEASES": '{"dial_timeout": 7}'}, 7.0),
        ("", {"JMP_DIAL_TIMEOUT": ""}, None),
    ],
)
def test_dial_timeout(home: Path, lines: str, variables: dict[str, str], seconds: float | None) -> None:
    """It is that of `leases`, unless the variable says otherwise."""
    (home / "clients" / "ci.yaml").write_text(f"{FULL}{lines}\n")
    assert load(home, **variables).dial_timeout == seconds


@pytest.mark.parametrize("value", ["0", "-1", "soon", "true", ".inf", ".nan", "[1]"])
def test_dial_timeout_that_is_none(home: Path, value: str) -> None:
    """What is no number of seconds is refused, with the file or the variable."""
    (home / "clients" / "ci.yaml").write_text(f"{FULL}leases: {{dial_timeout: {value}}}\n")
    said = " must be a number of seconds that is more than 0"
    assert refusal(home).endswith(f"leases.dial_timeout in {home / 'clients' / 'ci.yaml'}{said}")
    assert refusal(home, JMP_DIAL_TIMEOUT="x") == f"JMP_DIAL_TIMEOUT in the environment{said}"


@pytest.mark.parametrize("index", range(len(CHOICES)))
def test_same_choice_as_jumpstarter(theirs: list[Any], index: int) -> None:
    """The environment is taken for the client config exactly when Jumpstarter takes it."""
    assert Environment(CHOICES[index]).names_a_client() is (theirs[len(CASES) + index] is not None)


def test_same_folder_as_jumpstarter(tmp_path: Path) -> None:
    """The config folder is found where Jumpstarter finds it."""
    code = "from jumpstarter.config.common import CONFIG_PATH; print(CONFIG_PATH)"
    for variables in (
        {"HOME": "/h"},
        {"HOME": "/h", "XDG_CONFIG_HOME": "/x"},
        {"HOME": "/h", "XDG_CONFIG_HOME": "x"},
        {"HOME": "/h", "XDG_CONFIG_HOME": "/x", "JMP_CLIENT_CONFIG_HOME": "/j"},
        {"HOME": "/h", "JMP_CLIENT_CONFIG_HOME": ""},
    ):
        assert str(config_home(variables)) == run_python(code, [], variables).strip()


def run_python(code: str, arguments: list[str], variables: Mapping[str, str], stdin: str = "") -> str:
    """Run code with these variables and return what it prints."""
    environ = {"PATH": os.environ["PATH"], **variables}
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, env=environ, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout

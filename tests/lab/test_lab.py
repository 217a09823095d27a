"""Labs started from Python: how they begin, what they say of themselves, and that nothing of them stays."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_jumpstarter.errors import LabError
from pytest_jumpstarter.lab import Lab

from .peers import STATUSES, ManualExporter, Peer, refusal, wait_for
from .processes import children, environment, is_alive, path_with

EXTERNAL = "metadata: {name: ext, labels: {kind: manual}}\n"
POWER = """\
metadata: {name: mock, labels: {kind: mock}}
export: {power: {type: jumpstarter_driver_power.driver.MockPower}}
"""


@pytest.fixture(autouse=True)
def _drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let exporters find the drivers that are made for tests."""
    monkeypatch.setenv("PYTHONPATH", path_with(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the labs of a test their own folder for temporary files, and fail if they leave something there."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:  # short, for sockets
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield
        wait_for(lambda: not os.listdir(folder), f"an empty {folder}: {os.listdir(folder)}")
    monkeypatch.undo()
    tempfile.tempdir = None


def end_of(pid: int) -> None:
    """Wait until a process is gone."""
    wait_for(lambda: not is_alive(pid), f"the end of process {pid}")


class TestStart:
    """What a started lab offers."""

    def test_offers(self, lab_file: Callable[[str], Path]) -> None:
        """A lab names its endpoint, configs and process; the exporter's name is in its command line."""
        with Lab([lab_file(POWER)]) as lab:
            assert lab.endpoint.startswith("127.0.0.1:")
            assert lab.client_config == lab.config_dir / "clients" / "default.yaml"
            assert (lab.config_dir / "exporters" / "mock.yaml").exists()
            assert stat.S_IMODE(lab.config_dir.stat().st_mode) == 0o700
            assert [line.split()[-1] for line in children(lab.pid).values()] == ["mock"]
            assert "lab ready: " in lab.log
            with Peer(lab.client_config) as peer:
                assert peer.exporter("mock").online

    def test_stop(self, lab_file: Callable[[str], Path]) -> None:
        """A stopped lab leaves no process and no folder, and may be stopped again."""
        lab = Lab([lab_file(POWER)])
        lab.start()
        processes = [lab.pid, *children(lab.pid)]
        folder = lab.config_dir
        lab.stop()
        lab.stop()
        assert not any(map(is_alive, processes))
        assert not folder.exists()
        assert lab.endpoint == ""

    def test_given_folder(self, lab_file: Callable[[str], Path], tmp_path: Path) -> None:
        """Configs go where they are asked to, and away again."""
        with Lab([lab_file(EXTERNAL)], config_dir=tmp_path / "configs") as lab:
            assert lab.client_config == tmp_path / "configs" / "clients" / "default.yaml"
            assert lab.client_config.exists()
        assert not (tmp_path / "configs").exists()

    def test_own_session(self, lab_file: Callable[[str], Path]) -> None:
        """A terminal's Ctrl-C does not reach the lab, which is outside its owner's session."""
        with Lab([lab_file(EXTERNAL)]) as lab:
            assert os.getsid(lab.pid) == lab.pid

    def test_twice(self, lab_file: Callable[[str], Path]) -> None:
        """A lab that runs cannot be started."""
        with Lab([lab_file(EXTERNAL)]) as lab, pytest.raises(RuntimeError, match="already started"):
            lab.start()

    def test_imports(self) -> None:
        """`Lab` itself needs nothing but the standard library and this package."""
        code = (
            "import sys; from pytest_jumpstarter.lab import Lab;"
            "print([m for m in sys.modules if m.partition('.')[0] in"
            " ('grpc', 'google', 'yaml', 'cryptography', 'jwt', 'jumpstarter', 'jumpstarter_protocol', 'pytest')])"
        )
        loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert loaded.stdout.strip() == "[]"

    @pytest.mark.skipif(not Path("/proc").exists(), reason="there is no /proc to read a process's environment from")
    def test_environment(self, lab_file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
        """Exporters get none of Jumpstarter's variables, reach loopback without proxy, and work behind a dead one."""
        monkeypatch.setenv("JMP_LEASE", "of-another-run")
        monkeypatch.setenv("JUMPSTARTER_HOST", "/nowhere")
        monkeypatch.setenv("no_proxy", "example.com")
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        with Lab([lab_file(POWER)]) as lab:
            variables = environment(next(iter(children(lab.pid))))
        assert not [name for name in variables if name.startswith(("JMP_", "JUMPSTARTER_"))]
        assert variables["no_proxy"] == "example.com,127.0.0.1,localhost"

    def test_assign_delay(self, lab_file: Callable[[str], Path]) -> None:
        """A lab with a delay assigns later than it could: until then the lease has no conditions."""
        with Lab([lab_file(EXTERNAL)], assign_delay=0.5) as lab, Peer(lab.client_config) as peer:
            lease = peer.create(selector="kind=manual")
            assert not peer.lease(lease.name).conditions
            peer.await_condition(lease.name, "Pending", "True", "Offline")


class TestFailure:
    """What is said when a lab cannot start."""

    def refused(self, *paths: Path, timeout: float = 60.0) -> str:
        """Return why a lab does not start; fail if it leaves a process."""
        lab = Lab(paths, timeout=timeout)
        with pytest.raises(LabError) as caught:
            lab.start()
        left = [line for line in children(os.getpid()).values() if any(str(path) in line for path in paths)]
        assert not left
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize(
        ("type_", "words"),
        [
            (
                "jumpstarter_driver_teleport.driver.Teleporter",
                "driver 'p' (jumpstarter_driver_teleport.driver.Teleporter): module jumpstarter_driver_teleport is not"
                " installed; pip install jumpstarter-driver-teleport",
            ),
            (
                "drivers_for_tests.Broken",
                "driver 'p' (drivers_for_tests.Broken): ConnectionRefusedError: no relay at /dev/ttyUSB7"
                " is it plugged in?",
            ),
        ],
    )
    def test_driver(self, lab_file: Callable[[str], Path], type_: str, words: str) -> None:
        """A driver that cannot be had, or cannot start, is one error with file, exporter and cause."""
        file = lab_file(f"metadata: {{name: a}}\nexport: {{p: {{type: {type_}}}}}")
        assert self.refused(file) == f"{file}:1: exporter a does not start: {words}"

    def test_bad_config(self, lab_file: Callable[[str], Path]) -> None:
        """A driver that does not like its config says so."""
        board = "{type: pytest_jumpstarter.lab.board.VirtualBoard, config: {boot_time: -1}}"
        message = self.refused(lab_file(f"metadata: {{name: a}}\nexport: {{board: {board}}}"))
        driver = "driver 'board' (pytest_jumpstarter.lab.board.VirtualBoard)"
        words = "ValueError: boot_time is -1; it must not be negative; check option 'boot_time'; its options: "
        assert f"exporter a does not start: {driver}: {words}" in message

    def test_bad_hook(self, lab_file: Callable[[str], Path]) -> None:
        """A document that Jumpstarter's own reader refuses is refused with its words."""
        message = self.refused(lab_file(POWER + "hooks: {beforeLease: {timeout: 5}}"))
        assert "exporter mock does not start: ValidationError: " in message
        assert "hooks.beforeLease.script" in message

    def test_one_of_many(self, lab_file: Callable[[str], Path]) -> None:
        """When one exporter of several does not start, none is left."""
        broken = "metadata: {name: bad}\nexport: {p: {type: drivers_for_tests.Broken}}"
        assert "exporter bad does not start" in self.refused(lab_file(f"{POWER}---\n{broken}"))

    def test_too_slow(self, lab_file: Callable[[str], Path]) -> None:
        """An exporter that does not come up in time is named, with how far it came."""
        file = lab_file("metadata: {name: slow}\nexport: {p: {type: stuck_driver_for_tests.Stuck}}")
        message = "after 1.5 s these exporters are not available: slow (it has not registered"
        assert self.refused(file, timeout=1.5).startswith(message)

    def test_file(self, tmp_path: Path) -> None:
        """A file that is not there is an error."""
        assert self.refused(tmp_path / "nope.yaml") == f"lab file {tmp_path / 'nope.yaml'} does not exist"


class TestDeath:
    """What happens when something is killed."""

    def test_owner(self, lab_file: Callable[[str], Path]) -> None:
        """When its owner is killed the lab ends, with its exporters and files."""
        code = (
            "import sys, time; from pytest_jumpstarter.lab import Lab;"
            f"lab = Lab([{str(lab_file(POWER))!r}]); lab.start();"
            "print(lab.pid, lab.config_dir, flush=True); time.sleep(3600)"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
            assert owner.stdout is not None
            pid, folder = owner.stdout.readline().split()
            processes = [int(pid), *children(int(pid))]
            owner.kill()
        for process in processes:
            end_of(process)
        wait_for(lambda: not Path(folder).exists(), "the end of its files")

    def test_fork_of_the_owner(self, lab_file: Callable[[str], Path]) -> None:
        """A forked child that outlives the owner does not keep the lab alive, and cannot stop it."""
        code = (
            "import os, sys, time; from pytest_jumpstarter.lab import Lab;"
            f"lab = Lab([{str(lab_file(POWER))!r}]); lab.start();"
            "child = os.fork();"
            "(lab.stop(), time.sleep(3600)) if not child else None;"
            "print(lab.pid, child, flush=True); time.sleep(3600)"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
            assert owner.stdout is not None
            pid, child = map(int, owner.stdout.readline().split())
            assert is_alive(pid)
            owner.kill()
            owner.wait()
            end_of(pid)
            assert is_alive(child)
            os.kill(child, signal.SIGKILL)

    def test_lab(self, lab_file: Callable[[str], Path]) -> None:
        """When the lab is killed its exporters end, and `stop` clears up."""
        lab = Lab([lab_file(POWER)])
        lab.start()
        exporters = list(children(lab.pid))
        assert exporters
        os.kill(lab.pid, signal.SIGKILL)
        for process in exporters:
            end_of(process)
        lab.stop()

    def test_lab_of_a_blocked_exporter(self, lab_file: Callable[[str], Path], tmp_path: Path) -> None:
        """An exporter whose driver blocks ends with its lab all the same."""
        flag = tmp_path / "flag"
        driver = f"{{type: drivers_for_tests.Blocking, config: {{flag: {flag}}}}}"
        file = lab_file(f"metadata: {{name: a}}\nexport: {{p: {driver}}}")
        lab = subprocess.Popen([sys.executable, "-m", "pytest_jumpstarter.lab", str(file)])
        wait_for(flag.exists, "a blocked driver")
        exporters = list(children(lab.pid))
        lab.kill()
        lab.wait()
        assert exporters
        for process in exporters:
            end_of(process)

    def test_exporter(self, lab_file: Callable[[str], Path]) -> None:
        """When an exporter is killed the lab says so and starts it again, and it can be leased."""
        with Lab([lab_file(POWER)]) as lab, Peer(lab.client_config) as peer:
            first = next(iter(children(lab.pid)))
            os.kill(first, signal.SIGKILL)
            wait_for(lambda: "exporter mock started again" in lab.log, "a new exporter")
            assert "exporter mock died: it said nothing (killed by SIGKILL)" in lab.log
            assert first not in children(lab.pid)
            lease = peer.create(selector="kind=mock")
            peer.await_condition(lease.name, "Ready", "True", "Ready")
            wait_for(lambda: peer.exporter("mock").status == 4, "LEASE_READY")

    def test_exporter_for_good(self, lab_file: Callable[[str], Path], tmp_path: Path) -> None:
        """An exporter that dies again and again is left off, and the lab goes on."""
        flag = tmp_path / "flag"
        driver = f"{{type: drivers_for_tests.Dying, config: {{flag: {flag}}}}}"
        with Lab([lab_file(f"metadata: {{name: a}}\nexport: {{p: {driver}}}")]) as lab:
            flag.touch()
            os.kill(next(iter(children(lab.pid))), signal.SIGKILL)
            wait_for(lambda: "stays off" in lab.log, "the end of the attempts", timeout=40)
            assert "exporter a died: relay board on fire (exit status 3)" in lab.log
            assert "exporter a died 5 times within 60 s each; it stays off" in lab.log
            with Peer(lab.client_config) as peer:
                assert peer.exporter("a").name.endswith("/a")


class TestHooks:
    """Exporters with hooks, which Jumpstarter's exporter runs itself."""

    def test_lease_after_lease(self, lab_file: Callable[[str], Path]) -> None:
        """A lease is ready after its beforeLease hook, and the next one after the afterLease hook."""
        hooks = 'hooks: {beforeLease: {script: "true"}, afterLease: {script: "true"}}\n'
        with Lab([lab_file(POWER + hooks)]) as lab, Peer(lab.client_config) as peer:
            for _ in range(2):
                lease = peer.create(selector="kind=mock")
                peer.await_condition(lease.name, "Ready", "True", "Ready")
                wait_for(lambda: peer.exporter("mock").status == STATUSES.index("LEASE_READY"), "LEASE_READY")
                peer.delete(lease.name)

    def test_failed(self, lab_file: Callable[[str], Path]) -> None:
        """When a beforeLease hook fails and should end the lease, the exporter releases it."""
        hooks = 'hooks: {beforeLease: {script: "exit 7", onFailure: endLease}}\n'
        with Lab([lab_file(POWER + hooks)]) as lab, Peer(lab.client_config) as peer:
            lease = peer.create(selector="kind=mock")
            peer.await_condition(lease.name, "Ready", "False", "Released")
            wait_for(lambda: peer.exporter("mock").status == STATUSES.index("AVAILABLE"), "AVAILABLE")


class TestTime:
    """Options about time."""

    def test_offline(self, lab_file: Callable[[str], Path]) -> None:
        """An exporter that is silent for too long is offline."""
        with Lab([lab_file(EXTERNAL)], arguments=["--offline-after", "0.3s"]) as lab, Peer(lab.client_config) as peer:
            exporter = ManualExporter(lab.config_dir / "exporters" / "ext.yaml")
            exporter.join()
            assert peer.exporter("ext").online
            exporter.channel.close()
            wait_for(lambda: not peer.exporter("ext").online, "offline")
            assert peer.exporter("ext").status_message == "Connection lost - last seen more than 0.3 seconds ago"

    def test_open_stream_is_a_heartbeat(self, lab_file: Callable[[str], Path]) -> None:
        """An exporter with an open status stream stays online, however long it says nothing."""
        with (
            Lab([lab_file(EXTERNAL)], arguments=["--offline-after", "0.2s"]) as lab,
            Peer(lab.client_config) as peer,
            ManualExporter(lab.config_dir / "exporters" / "ext.yaml") as exporter,
        ):
            exporter.join()
            lease = peer.create(selector="kind=manual", duration=1)
            peer.await_condition(lease.name, "Ready", "False", "Expired")
            assert peer.exporter("ext").online

    def test_expired_token(self, lab_file: Callable[[str], Path]) -> None:
        """A token that has run out is refused with the text that Jumpstarter's clients look for."""
        with Lab([lab_file(EXTERNAL)], arguments=["--token-lifetime", "1s"]) as lab, Peer(lab.client_config) as peer:

            def refused() -> str | None:
                try:
                    peer.exporter("ext")
                except Exception:
                    return ": ".join(refusal(lambda: peer.exporter("ext")))
                return None

            text = wait_for(refused, "a refused token")
            assert text.startswith("UNKNOWN: oidc: verify token: oidc: token is expired (Token Expiry: 2")
            assert peer.token not in text

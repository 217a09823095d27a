"""The channel between xdist's controller process and its workers, when one of its ends fails."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import interrupted_after, until

from pytest_jumpstarter.workers.channel import ControllerEnd, Message, WorkerEnd


@pytest.fixture
def heard() -> list[Message]:
    """Return the messages that the controller process has received."""
    return []


@pytest.fixture
def controller_end(heard: list[Message]) -> Iterator[ControllerEnd]:
    """Return a controller end whose answers name the worker gw9."""

    def answer(message: Message) -> Message:
        heard.append(message)
        return {"worker": "gw9"}

    end = ControllerEnd(answer)
    yield end
    end.close()


@pytest.fixture
def worker_end(controller_end: ControllerEnd) -> Iterator[WorkerEnd]:
    """Return the end of the worker gw0."""
    end = WorkerEnd(controller_end.address, "gw0")
    yield end
    controller_end.close()
    end.tell("say", "")  # gets no answer, and closes the socket


def test_answer_after_an_interruption() -> None:
    """An answer that a worker did not wait for, because of a signal, is not taken for that to its next message."""
    is_over = threading.Event()

    def answer(message: Message) -> Message:
        if message["do"] == "token":
            is_over.wait(20)
            return {"token": "late"}
        return {"exporters": ["b-1"]}

    end = ControllerEnd(answer)
    worker_end = WorkerEnd(end.address, "gw0")
    try:
        with interrupted_after(0.2), pytest.raises(KeyboardInterrupt):
            worker_end.token("old")
        is_over.set()
        assert worker_end.refused_exporters() == ["b-1"]
        assert worker_end.token("old") == {"token": "late"}
    finally:
        is_over.set()
        end.close()
        worker_end.tell("say", "")  # gets no answer, and closes the socket


def raw(end: ControllerEnd, data: bytes) -> socket.socket:
    """Return a connection that has sent these bytes."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(end.address)
    connection.sendall(data)
    return connection


def test_only_this_user(controller_end: ControllerEnd) -> None:
    """No other user can reach the socket."""
    folder = Path(controller_end.address).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("data", [b"", b"{", b'{"do": "say", "te', b"{\n", b"\0\n", b"\xff\n"])
def test_worker_that_is_killed_during_a_message(
    controller_end: ControllerEnd, worker_end: WorkerEnd, heard: list[Message], data: bytes
) -> None:
    """Half a message, or one that is not JSON, ends the connection of that worker only."""
    raw(controller_end, data).close()
    worker_end.tell("say", "still here")
    assert heard == [{"do": "say", "text": "still here", "worker": "gw0"}]
    until(lambda: sum("jumpstarter-worker" in thread.name for thread in threading.enumerate()) == 1, timeout=10)


def test_closed_controller(controller_end: ControllerEnd, worker_end: WorkerEnd) -> None:
    """A worker goes on without an answer, and later messages are not waited for."""
    assert worker_end.wanted_by([("board-1", {})]) == "gw9"
    controller_end.close()
    assert worker_end.wanted_by([("board-1", {})]) == ""
    assert WorkerEnd(controller_end.address, "gw1").wanted_by([("board-1", {})]) == ""
    assert not Path(controller_end.address).parent.exists()


def test_forked_child(worker_end: WorkerEnd, heard: list[Message]) -> None:
    """A forked child of a worker sends nothing, and leaves the connection to its parent."""
    if (pid := os.fork()) == 0:
        worker_end.tell("say", "from the child")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    worker_end.tell("say", "from the parent")
    assert [message["text"] for message in heard] == ["from the parent"]

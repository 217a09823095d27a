"""The router: pairs of streams, their frames, and their ends."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from jumpstarter_protocol import router_pb2

from .peers import ManualExporter, Peer, refusal, wait_for
from .test_controller_service import bare, try_dial


class End:
    """One end of a stream: sends frames when told to, and keeps open until it is closed."""

    def __init__(self, peer: Peer, token: str) -> None:
        self._frames: queue.Queue[bytes | None] = queue.Queue()
        self.call: Any = peer.stream(token, iter(self._frames.get, None))

    def send(self, payload: bytes, kind: int = 0) -> None:
        """Send a frame."""
        frame = router_pb2.StreamRequest(payload=payload)
        frame.frame_type = kind  # type: ignore[assignment]  # any number: the router must not mind
        self._frames.put(frame.SerializeToString())

    def send_raw(self, data: bytes) -> None:
        """Send bytes that need not be a frame."""
        self._frames.put(data)

    def finish(self) -> None:
        """Send no more."""
        self._frames.put(None)

    def receive(self) -> router_pb2.StreamResponse:
        """Wait for a frame."""
        return router_pb2.StreamResponse.FromString(next(self.call))


@pytest.fixture
def lease(peer: Peer, exporter: ManualExporter) -> str:
    """Lease an exporter that is ready and listens; return the lease's bare name."""
    lease = peer.await_condition(peer.create(selector="kind=solo").name, "Ready", "True", "Ready")
    exporter.report("LEASE_READY")
    exporter.listen(bare(lease))
    wait_for(lambda: try_dial(peer, bare(lease)), "a listening exporter")
    return bare(lease)


@pytest.fixture
def token(peer: Peer, lease: str) -> str:
    """Dial once."""
    return peer.dial(lease).router_token


@pytest.fixture
def ends(peer: Peer, exporter: ManualExporter, token: str) -> Iterator[tuple[End, End]]:
    """Open both ends of a stream."""
    both = End(peer, token), End(exporter, token)
    yield both
    for end in both:
        end.finish()
        end.call.cancel()


class TestAuthorization:
    """Who may open a stream."""

    @pytest.mark.parametrize(
        ("metadata", "text"),
        [
            ([], "missing or invalid authorization: missing authorization header"),
            ([("authorization", "x")], "missing or invalid authorization: malformed authorization header"),
            ([("authorization", "Bearer x")], "invalid jwt token"),
        ],
    )
    def test_refused(self, peer: Peer, metadata: list[tuple[str, str]], text: str) -> None:
        """A stream without a good token is UNAUTHENTICATED."""
        method: Any = peer.channel.stream_stream("/jumpstarter.v1.RouterService/Stream")
        call = method(iter([]), metadata=metadata, timeout=10)
        assert refusal(lambda: next(call)) == ("UNAUTHENTICATED", text)

    def test_client_token(self, peer: Peer) -> None:
        """A client's token is not a router's."""
        call = peer.stream(peer.token, [])
        assert refusal(lambda: next(call)) == ("UNAUTHENTICATED", "invalid jwt token")


class TestForwarding:
    """What goes in on one end comes out of the other."""

    def test_both_ways(self, ends: tuple[End, End]) -> None:
        """Frames are copied in both directions, in order."""
        first, second = ends
        for number in range(100):
            first.send(b"%d" % number)
            second.send(b"-%d" % number)
        assert [second.receive().payload for _ in range(100)] == [b"%d" % number for number in range(100)]
        assert [first.receive().payload for _ in range(100)] == [b"-%d" % number for number in range(100)]

    @pytest.mark.parametrize("kind", [0, 3, 6, 7, 99])
    def test_kinds(self, ends: tuple[End, End], kind: int) -> None:
        """Every kind of frame is copied as it is, known or not."""
        first, second = ends
        first.send(b"x", kind)
        frame = second.receive()
        assert (frame.payload, frame.frame_type) == (b"x", kind)

    def test_garbage(self, ends: tuple[End, End]) -> None:
        """Bytes that are no frame at all are copied too; the router goes on."""
        first, second = ends
        first.send_raw(b"\xff\xfe garbage")
        assert next(second.call) == b"\xff\xfe garbage"
        second.send(b"still here")
        assert first.receive().payload == b"still here"

    def test_large(self, ends: tuple[End, End]) -> None:
        """A frame as large as clients take, almost 4 MiB, passes."""
        first, second = ends
        payload = bytes(range(256)) * 16 * 1023  # the frame around it must stay below a client's default limit
        first.send(payload)
        assert second.receive().payload == payload

    def test_one_waits(self, peer: Peer, exporter: ManualExporter, token: str) -> None:
        """What the first end sent before the second came is kept, in order."""
        first = End(peer, token)
        for number in range(50):
            first.send(bytes([number]) * 1000)
        second = End(exporter, token)
        received = [second.receive().payload for _ in range(50)]
        assert received == [bytes([number]) * 1000 for number in range(50)]
        first.call.cancel()
        second.call.cancel()


class TestEnds:
    """How a stream ends."""

    def test_both_finish(self, ends: tuple[End, End]) -> None:
        """When both ends have sent all, both streams end without error."""
        for end in ends:
            end.send(b"last")
            end.finish()
        for end in ends:
            assert end.receive().payload == b"last"
            with pytest.raises(StopIteration):
                next(end.call)

    def test_one_finishes(self, ends: tuple[End, End]) -> None:
        """An end that has sent all still receives."""
        first, second = ends
        first.finish()
        second.send(b"to you")
        assert first.receive().payload == b"to you"

    @pytest.mark.parametrize("which", [0, 1])
    def test_one_vanishes(self, ends: tuple[End, End], which: int) -> None:
        """When one end vanishes the other is told at once, whichever came first."""
        for end in ends:
            end.send(b"hello")
        for end in ends:
            end.receive()
        ends[which].call.cancel()
        with pytest.raises((StopIteration, grpc.RpcError)):
            next(ends[1 - which].call)

    def test_parked_ends_with_its_lease(self, peer: Peer, lease: str, token: str) -> None:
        """An end whose other end never came is freed when the lease ends."""
        parked = End(peer, token)
        parked.send(b"hello?")
        peer.delete(f"namespaces/lab/leases/{lease}")
        with pytest.raises(StopIteration):
            next(parked.call)

    def test_after_its_lease(self, peer: Peer, lease: str, token: str) -> None:
        """A token of an ended lease opens nothing: nobody would ever come."""
        peer.delete(f"namespaces/lab/leases/{lease}")
        peer.await_condition(f"namespaces/lab/leases/{lease}", "Ready", "False", "Released")
        call = peer.stream(token, [])
        assert refusal(lambda: next(call)) == ("UNAVAILABLE", "the lease of this stream has ended")

    def test_parked_vanishes(self, peer: Peer, exporter: ManualExporter, token: str) -> None:
        """An end that vanishes while it waits leaves its place to the next."""
        gone = End(peer, token)
        gone.call.cancel()

        def meet() -> bool:
            first, second = End(peer, token), End(exporter, token)
            first.send(b"hello")
            try:
                return second.receive().payload == b"hello"
            except (StopIteration, grpc.RpcError):
                return False  # one of them met the one that goes, before the lab knew
            finally:
                first.call.cancel()
                second.call.cancel()

        wait_for(meet, "two ends that meet")

    def test_back_pressure(self, ends: tuple[End, End]) -> None:
        """A receiver that does not read holds its sender back, and loses nothing."""
        first, second = ends
        for number in range(64):
            first.send(bytes([number]) * 1024 * 1024)
        first.send(b"end")
        sizes = [len(second.receive().payload) for _ in range(64)]
        assert sizes == [1024 * 1024] * 64
        assert second.receive().payload == b"end"

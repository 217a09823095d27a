"""
The requests that were asked of a production controller, asked again of a lab: each has a label, and gets an answer.

An answer is `CODE | text`, or `OK | JSON`; what differs from run to run is replaced. The labels are those of
`tests/data/controller-0.9.0.json`. The lab has the exporters of `LAB_FILE`, and the clients `alice` and `bob`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jumpstarter_protocol import client_pb2, jumpstarter_pb2

from . import question_data as data
from .asking import LAB, RUN, Asker, at, is_ended, is_ready
from .peers import Peer, listed_leases, wait_for
from .peers import seconds as duration


class Questions(Asker):
    """
    Asks a lab everything.

    Args:
        alice: The client that asks.
        bob: Another client, and no owner of any lease.
        exporter_token: The token of an exporter.
    """

    def __init__(self, alice: Peer, bob: Peer, exporter_token: str) -> None:
        super().__init__(alice, bob)
        self._exporter_token = exporter_token

    def ask_all(self) -> dict[str, str]:
        """Ask everything, in an order in which no question changes the answer to another; return the answers."""
        self._lease_once()
        self._ask_who_calls()
        self._ask_names()
        self._ask_filters()
        self._ask_pages()
        self._ask_to_create()
        self._ask_times()
        self._ask_names_of_leases()
        self._ask_tags()
        for name, fields in data.OUTCOMES.items():
            self._ask_outcome(name, fields)
        self._ask_to_change()
        self._ask_of_an_expired_lease()
        self._ask_the_rest()
        return self.answers

    def _lease_once(self) -> None:
        """Lease board-1, which then says that it is available for a new lease."""
        self._alice.create("before", selector="n=1")
        self._wait(f"{LAB}/leases/before", is_ready)
        wait_for(lambda: self._alice.exporter("board-1").status == 4, "board-1 to be ready")  # LEASE_READY
        self._end(f"{LAB}/leases/before")
        self._wait_free("board-1")

    def _ask_who_calls(self) -> None:
        token = self._alice.token
        headers: dict[str, str | None] = {
            "no authorization": None, "Basic": "Basic abc", '"Bearer" alone': "Bearer", '"Bearer " empty': "Bearer ",
            "lower-case bearer": f"bearer {token}", "two spaces": f"Bearer  {token}", "garbage token": "Bearer abc",
            "garbage three-part token": "Bearer a.b.c", "exporter token as client": f"Bearer {self._exporter_token}",
        }  # fmt: skip
        for label, header in (headers | dict(self._forged(token))).items():
            self._get_exporter(f"auth: {label}", data.BOARD_1, self._as(authorization=header))
        self._get_exporter("auth: no metadata at all", data.BOARD_1, [])
        self._get_exporter("auth: malformed name without auth", "x", [])
        self._get_exporter("auth: path in other namespace", "namespaces/other/exporters/board-1")
        for label, changes in data.CALLERS.items():
            self._get_exporter(f"auth: {label}", data.BOARD_1, self._as(**changes))
        for label, pair in data.TWICE.items():
            self._get_exporter(f"auth: {label}", data.BOARD_1, [*self._as(), pair])

    def _forged(self, token: str) -> Iterator[tuple[str, str]]:
        """Yield headers with tokens that nobody has issued."""
        claims = jwt.decode(token, options={"verify_signature": False})
        key = ec.generate_private_key(ec.SECP256R1())
        head, _, signature = token.rpartition(".")
        yield "bad signature", f"Bearer {head}.{'A' * 10}{signature[10:]}"
        for label, changed in (
            ("right claims, foreign key", claims),
            ("foreign issuer", {**claims, "iss": "https://evil"}),
            ("foreign audience", {**claims, "aud": ["x"]}),
        ):
            yield label, f"Bearer {jwt.encode(changed, key, algorithm='ES256')}"
        yield "HS256", f"Bearer {jwt.encode(claims, 'x' * 32, algorithm='HS256')}"
        yield "alg none", f"Bearer {jwt.encode(claims, '', algorithm='none')}"

    def _ask_names(self) -> None:
        for label, name in data.NAMES.items():
            self._get_exporter(label, name)

    def _ask_filters(self) -> None:
        for text in data.FILTERS:
            self._list(f"filter: {text[:30]!r}", filter=text)
        lists, leases = self._alice.clients.ListExporters, self._alice.clients.ListLeases
        self._ask("list: parent malformed", lists, client_pb2.ListExportersRequest(parent="lab"))
        self._ask("list: parent other ns", lists, client_pb2.ListExportersRequest(parent="namespaces/other"))
        for label, fields in data.BAD_LISTINGS.items():
            self._ask(f"leases: {label}", leases, client_pb2.ListLeasesRequest(parent=LAB, **fields))

    def _ask_pages(self) -> None:
        self._list("list: page_size -1", page_size=-1)
        token = self._list("list: page_size 2", filter="board=virtual", page_size=2)
        self._list("list: second page", filter="board=virtual", page_size=2, page_token=token)
        self._list("list: token with other filter", filter="board=offline", page_size=2, page_token=token)
        self._list("list: bad token", page_token="!!")
        self._list("list: bad base64 token", page_token="YWJj", page_size=1)

    def _list(self, label: str, **fields: Any) -> str:
        """List exporters, with an answer of their names; return the token for the next page."""
        request = client_pb2.ListExportersRequest(parent=LAB, **fields)
        response = self._ask(label, self._alice.clients.ListExporters, request)
        if response is None:
            return ""
        names = [exporter.name.rpartition("/")[2] for exporter in response.exporters]
        more = ["+next"] if response.next_page_token else []
        self.answers[label] = f"OK | {' '.join([*names, *more])}"
        return str(response.next_page_token)

    def _ask_to_create(self) -> None:
        creates = self._alice.clients.CreateLease
        self._ask("create: no lease", creates, client_pb2.CreateLeaseRequest(parent=LAB, lease_id=self._new_id()))
        self._ask("create: empty request", creates, client_pb2.CreateLeaseRequest())
        self._create("create: no selector", **data.MINUTE)
        self._create("create: bad parent", parent="x", selector="board=none", **data.MINUTE)
        self._create("create: other ns", parent="namespaces/other", selector="board=none", **data.MINUTE)
        self._create("create: no target, no auth", metadata=[], **data.MINUTE)
        for label, fields in data.IGNORED.items():
            self._create(f"create: {label}", selector="board=none", **data.MINUTE, **fields)
        for text in data.SELECTORS:
            self._create(f"selector: {text[:30]!r}", selector=text, **data.MINUTE)
        many = ",".join(f"v{number}" for number in range(3000))
        self._create("huge selector 20 kB", selector=f"board in ({many})", **data.MINUTE)
        self.answers["huge selector 20 kB"] = self.answers["huge selector 20 kB"][:300]

    def _ask_times(self) -> None:
        for label, fields in data.TIMES.items():
            self._create(f"create: {label}", selector="board=none", **fields)

    def _ask_names_of_leases(self) -> None:
        for name in ("nope", "Bad_Name", "a/b", "board-1" + "x" * 300, " ", "board-1 "):
            self._create(f"exporter_name: {name[:12]!r}", exporter_name=name, **data.MINUTE)
        for lease_id in (
            "UPPER", "a_b", "a/b", "-a", "a-", f"a.b-{RUN}", "x" * 254, "ü", " ", ".", "..", "a..b", "x" * 63 + RUN,
        ):  # fmt: skip
            label = f"lease_id: {lease_id.replace(RUN, 'RUN')[:12]!r}"
            self._create(label, lease_id, selector="board=none", **data.MINUTE)
        self._create("lease_id: empty", "", selector="board=none", **data.MINUTE)
        used = self._new_id()
        self._create("lease_id: first use", used, selector="board=none", **data.MINUTE)
        self._create("lease_id: again", used, selector="board=none", **data.MINUTE)
        self._create("lease_id: again by bob", used, metadata=self._as(self._bob), selector="board=none", **data.MINUTE)

    def _ask_tags(self) -> None:
        for count in (10, 11):
            tags = {f"t{number}": "x" for number in range(count)}
            self._create(f"tags: {count}", selector="board=none", tags=tags, **data.MINUTE)
        for key, value in data.TAGS:
            label = f"tags: {key[:16]!r}={value[:16]!r} ({len(key)},{len(value)})"
            self._create(label, selector="board=none", tags={key: value}, **data.MINUTE)

    def _ask_outcome(self, name: str, fields: Mapping[str, Any]) -> None:
        """Ask about one lease before and after its end."""
        label = f"outcome {name}"
        lease = self._create(f"{label}: created", **data.MINUTE, **fields)
        self._wait(lease, lambda it: it.conditions)
        if name in ("ok", "exporter+selector"):
            self._wait_listening(lease)
        self._ask_about(f"{label}: after", lease)
        self._dial(f"{label}: dial", lease)
        self._end(lease)
        self._ask_about(f"{label}: deleted", lease)
        for exporter in ("board-1", "board-2"):
            self._wait_free(exporter)
        self._dial(f"{label}: dial deleted", lease)

    def _ask_to_change(self) -> None:
        """Ask about changes of an active and of a pending lease, and release both."""
        self._wait_free("board-1")
        active = self._create("upd: created", selector="n=1", **data.MINUTE)
        self._wait(active, is_ready)
        pending = self._create("upd pending: created", selector="n=1", **data.MINUTE)
        self._wait(pending, lambda lease: lease.conditions)
        for label, fields in data.CHANGES.items():
            self._update(f"update: {label}", active, **fields)
        self._update("update: by bob", active, metadata=self._as(self._bob), duration=duration(9))
        for label, fields in data.CHANGES_OF_PENDING.items():
            self._update(f"update: {label}", pending, **fields)
            if label == "pending duration":
                self._wait(pending, lambda lease: lease.conditions[0].observedGeneration == 2)
        self._update("update: end+duration", active, end_time=at(300), duration=duration(200))
        self._update("update: then duration only", active, duration=duration(220))
        self._update("update: missing", f"{LAB}/leases/nope", duration=duration(9))
        self._update("update: malformed", "x", duration=duration(9))
        self._ask("update: empty request", self._alice.clients.UpdateLease, client_pb2.UpdateLeaseRequest())
        self._ask_to_end(active, pending)

    def _ask_to_end(self, active: str, pending: str) -> None:
        bob = self._as(self._bob)
        self._delete("delete: malformed", "x")
        self._delete("delete: missing", f"{LAB}/leases/nope")
        self._delete("delete: by bob", active, bob)
        self._ask("get: by bob", self._alice.clients.GetLease, client_pb2.GetLeaseRequest(name=active), bob)
        self._dial("dial: by bob", active, bob)
        self._dial("dial: pending", pending)
        self._release("release: by bob", active, bob)
        self._release("release: missing", "nope")
        self._delete("delete: pending", pending)
        self._wait(pending, is_ended)
        self._ask_about("get: released pending", pending)
        self._delete("delete: ok", active)
        self._delete("delete: twice", active)
        self._wait(active, is_ended)
        self._delete("delete: thrice", active)
        self._update("update: ended", active, duration=duration(500))
        self._update("update: transfer ended", active, client=f"{LAB}/clients/bob")
        self._release("release: ended", active)

    def _ask_of_an_expired_lease(self) -> None:
        for label, seconds in (("expiring", 2), ("shorten", 60)):
            self._wait_free("board-2")
            lease = self._create(f"{label}: created", selector="n=2", duration=duration(seconds))
            self._wait(lease, is_ready)
            if label == "shorten":
                self._update("shorten: to 1 s", lease, duration=duration(1))
            self._wait(lease, is_ended)
            if label == "shorten":
                self._ask_about("shorten: after", lease)
                return
            self._ask_about("expired: get", lease)
            self._update("expired: update", lease, duration=duration(600))
            self._ask_about("expired: get after update", lease)
            self._delete("expired: delete", lease)
            self._delete("expired: delete twice", lease)
            self._ask_about("expired: get after delete", lease)
            self._wait_free("board-2")
            self._dial("expired: dial", lease)

    def _ask_the_rest(self) -> None:
        clients, controller = self._alice.clients, self._alice.controller
        for label, parent in {"malformed": "x", "other ns": "namespaces/other"}.items():
            self._ask(f"rotate: {label}", clients.RotateToken, client_pb2.RotateTokenRequest(parent=parent))
        bob = self._as(self._bob)
        self._ask("rotate: bob", clients.RotateToken, client_pb2.RotateTokenRequest(parent=LAB), bob)
        self._dial("dial: empty", "")
        self._dial("dial: missing", "nope")
        self._dial("dial: no auth", "nope", [])
        for label, (path, request) in data.RAW.items():
            method: Any = self._alice.channel.unary_unary(path, response_deserializer=client_pb2.Lease.FromString)
            self._ask(label, method, request)
        self._ask("legacy GetLease", controller.GetLease, jumpstarter_pb2.GetLeaseRequest(name="nope"))
        for lease in listed_leases(self._alice)[1:]:
            self._end(lease)
        self._ask("legacy ListLeases", controller.ListLeases, jumpstarter_pb2.ListLeasesRequest())
        self._ask("legacy RequestLease empty", controller.RequestLease, jumpstarter_pb2.RequestLeaseRequest())

"""What a lab is asked, by label; `questions.py` asks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration

from .asking import LAB, at
from .peers import seconds as duration

BOARD = "export: {board: {type: pytest_jumpstarter.lab.board.VirtualBoard}}"
LAB_FILE = f"""\
metadata: {{name: board-1, labels: {{board: virtual, n: "1"}}}}
{BOARD}
---
metadata: {{name: board-2, labels: {{board: virtual, n: "2"}}}}
{BOARD}
---
metadata: {{name: board-3, labels: {{board: virtual, n: "3", kind: gateway}}}}
{BOARD}
---
metadata: {{name: board-off, labels: {{board: offline}}}}
---
metadata: {{name: board-dis, labels: {{board: disabled}}}}
enabled: false
export: {{power: {{type: jumpstarter_driver_power.driver.MockPower}}}}
"""

BOARD_1 = f"{LAB}/exporters/board-1"
MINUTE: Mapping[str, Any] = {"duration": duration(60)}

FILTERS = (
    "board=virtual", "board==virtual", "board = virtual", "board in (virtual,x)", "board notin (virtual)", "board",
    "!board", "n>1", "n<3", "n!=1", "board=", "board!=", "board in ()", "board in (", "a=b=c", "=x", ",",
    "board=virtual,", "!", "-x", "a/b/c=d", "UPPER.com/x=y", "board=" + "x" * 64, "k" * 64 + "=x", "board=a b",
    "board in (a b)", "n>x", "n in (1,2),board=virtual", "notin", "in", "x in in (a)", "board=ü", " ",
    "board=virtual n=1", "(", "board&x", "board='virtual'",
)  # fmt: skip
SELECTORS = (
    "board=virtual,board=other", "board!=virtual,board!=x", "board in (none,none)", "board = none", "board in (b,a)",
    "board notin (x),n=zz", "board,!zzz,n=zz", "n>100", "a in (", "=x", ",", " ", "board=" + "x" * 64, "a/b/c=d",
    "board=none,", "b=2,a=1", "board=", "board==none,board=none", "Board=none", "x in (1),x in (2)",
    "z=1,a in (2),m!=3", "x!=1,x notin (2),n=zz",
)  # fmt: skip
TAGS = (
    ("a/b", "x"), ("jumpstarter.dev/x", "x"), ("metadata.jumpstarter.dev/x", "x"), ("", "x"), ("-a", "x"),
    ("a" * 64, "x"), ("a" * 63, "x"), ("a", "feature/x"), ("a", "x" * 64), ("a", "x" * 63), ("a", ""), ("a", "-x"),
    ("a", "ü"), ("ü", "a"), ("a b", "c"), ("a", "b c"), ("a", "#12"), ("A.b_c", "X.y_z"),
)  # fmt: skip
OUTCOMES: Mapping[str, dict[str, Any]] = {
    "none match": {"selector": "board=none"},
    "offline": {"selector": "board=offline"},
    "disabled": {"selector": "board=disabled"},
    "disabled by name": {"exporter_name": "board-dis"},
    "missing exporter": {"exporter_name": "nope"},
    "mismatch": {"exporter_name": "board-1", "selector": "board=x"},
    "offline by name": {"exporter_name": "board-off"},
    "exporter+selector": {"exporter_name": "board-2", "selector": "n in (2)"},
    "ok": {"selector": "n=1", "tags": {"a": "b"}},
}

CALLERS: Mapping[str, dict[str, str | None]] = {
    "no namespace": {"namespace": None},
    "no kind": {"kind": None},
    "no name": {"name": None},
    "empty name": {"name": ""},
    "empty namespace": {"namespace": ""},
    "kind Exporter": {"kind": "Exporter"},
    "kind bogus": {"kind": "Bogus"},
    "kind lower-case": {"kind": "client"},
    "unknown client": {"name": "nobody"},
    "other client name": {"name": "bob"},
    "other namespace in metadata": {"namespace": "other"},
}
TWICE = {
    "two headers": ("authorization", "Bearer x"),
    "two names": ("jumpstarter-name", "x"),
    "two namespaces": ("jumpstarter-namespace", "x"),
    "two kinds": ("jumpstarter-kind", "Client"),
}
NAMES = {
    "name: empty": "",
    "name: one segment": "board-1",
    "name: wrong first": "namespace/lab/exporters/board-1",
    "name: wrong third": f"{LAB}/leases/board-1",
    "name: five segments": f"{BOARD_1}/x",
    "name: empty last": f"{LAB}/exporters/",
    "name: upper case": f"{LAB}/exporters/BOARD_1",
    "name: percent": f"{LAB}/exporters/a%2Fb",
    "name: unicode": f"{LAB}/exporters/bö",
    "exporter: missing": f"{LAB}/exporters/nope",
    "exporter: board-1": BOARD_1,
    "exporter: offline": f"{LAB}/exporters/board-off",
    "exporter: disabled": f"{LAB}/exporters/board-dis",
    "huge bad name 20 kB": "x" * 20000,
}
CHANGES: Mapping[str, dict[str, Any]] = {
    "nothing": {},
    "zero": {"duration": duration(0)},
    "negative": {"duration": duration(-1)},
    "120": {"duration": duration(120)},
    "90.123456789": {"duration": duration(90.123456789)},
    "begin alone": {"begin_time": at(5)},
    "begin+duration started": {"begin_time": at(5), **MINUTE},
    "end alone": {"end_time": at(100)},
    "selector ignored": {"selector": "board=zzz", **MINUTE},
    "bad selector": {"selector": "a in (", **MINUTE},
    "bad selector no times": {"selector": "a in ("},
    "transfer missing": {"client": f"{LAB}/clients/nope"},
    "transfer other ns": {"client": "namespaces/other/clients/bob"},
    "transfer malformed": {"client": "bob"},
    "transfer self": {"client": f"{LAB}/clients/alice"},
    "tags": {"tags": {"q": "r"}},
}
CHANGES_OF_PENDING: Mapping[str, dict[str, Any]] = {
    "transfer pending": {"client": f"{LAB}/clients/bob"},
    "pending duration": {"duration": duration(70)},
    "pending begin": {"begin_time": at(600), "duration": duration(70)},
}
RAW = {
    "unknown method": ("/jumpstarter.client.v1.ClientService/Nope", b""),
    "unknown service": ("/nope.Nope/Nope", b""),
    "invalid utf-8": ("/jumpstarter.client.v1.ClientService/GetLease", b"\x0a\x02\xff\xfe"),
    "broken protobuf": ("/jumpstarter.client.v1.ClientService/GetLease", b"\x0a\xff"),
    "5 MiB request": (
        "/jumpstarter.client.v1.ClientService/GetLease",
        b"\x0a\x80\x80\xc0\x02" + b"x" * (5 << 20),
    ),
}
IGNORED: Mapping[str, dict[str, Any]] = {
    "client field set": {"client": f"{LAB}/clients/bob"},
    "exporter field set": {"exporter": BOARD_1},
    "name field set": {"name": "namespaces/x/leases/y"},
    "allow_disabled": {"allow_disabled": True},
}
BAD_LISTINGS: Mapping[str, dict[str, Any]] = {
    "bad filter": {"filter": "a in ("}, "bad tag_filter": {"tag_filter": "a in ("},
    "tag_filter with slash": {"tag_filter": "a/b=c"}, "tag_filter long value": {"tag_filter": "a=" + "x" * 70},
    "tag_filter none match": {"tag_filter": "zzz=1"}, "empty filter text": {"filter": "zzz=1"},
}  # fmt: skip
TIMES: Mapping[str, Mapping[str, Any]] = {
    "no duration": {}, "zero duration": {"duration": duration(0)}, "negative": {"duration": duration(-5)},
    "1 ns": {"duration": Duration(nanos=1)}, "1.5 s": {"duration": duration(1.5)},
    "292 years": {"duration": duration(9223372036)}, "300 years": {"duration": duration(9999999999)},
    "mixed sign": {"duration": Duration(seconds=5, nanos=-5)}, "begin only": {"begin_time": at(60)},
    "end only": {"end_time": at(60)}, "begin+end": {"begin_time": at(60), "end_time": at(120)},
    "end before begin": {"begin_time": at(60), "end_time": at(20)},
    "conflict": {"begin_time": at(60), "end_time": at(120), "duration": duration(5)},
    "end+duration": {"end_time": at(600), **MINUTE},
    "begin in past": {"begin_time": at(-60), **MINUTE},
    "begin+duration": {"begin_time": at(60), **MINUTE},
}  # fmt: skip

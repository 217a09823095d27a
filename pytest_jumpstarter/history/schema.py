"""The tables of a history file, and how it is recognised."""

from __future__ import annotations

APPLICATION_ID = 0x4A4D5048  # "JMPH", in SQLite's header, where each program has its own number
VERSION = 1
"""The version of the tables, in SQLite's `user_version`; a newer file is refused."""

# Names and words are kept once and numbered, or they would be most of the file. `state` is the board state that a test
# stood on, if any; `metrics` is JSON.
TABLES = """
CREATE TABLE run (
  id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, start REAL NOT NULL, stop REAL NOT NULL,
  commit_name TEXT NOT NULL, ci TEXT NOT NULL, build TEXT NOT NULL, job TEXT NOT NULL, url TEXT NOT NULL
);
CREATE TABLE test (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE board (id INTEGER PRIMARY KEY, exporter TEXT NOT NULL UNIQUE, labels TEXT NOT NULL);
CREATE TABLE word (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE result (
  run INTEGER NOT NULL, test INTEGER NOT NULL, role INTEGER NOT NULL, board INTEGER NOT NULL,
  outcome INTEGER NOT NULL, reason TEXT, device_error INTEGER NOT NULL,
  setup_ms INTEGER, call_ms INTEGER, teardown_ms INTEGER, state TEXT, metrics TEXT
);
CREATE INDEX result_of_run ON result (run);
CREATE INDEX result_of_test ON result (test);
CREATE TABLE lease (
  run INTEGER NOT NULL, board INTEGER NOT NULL, queued_ms INTEGER NOT NULL, ready_ms INTEGER, has_error INTEGER NOT NULL
);
CREATE INDEX lease_of_run ON lease (run);
"""

RESULTS = """
SELECT test.name, role.text, board.exporter, board.labels, outcome.text, coalesce(reason, ''), device_error.text,
  setup_ms / 1000.0, call_ms / 1000.0, teardown_ms / 1000.0, coalesce(metrics, ''), coalesce(state, ''),
  run.start, run.commit_name, run.uuid
FROM result JOIN run ON run.id = result.run JOIN test ON test.id = result.test JOIN board ON board.id = result.board
  JOIN word AS role ON role.id = result.role JOIN word AS outcome ON outcome.id = result.outcome
  JOIN word AS device_error ON device_error.id = result.device_error
"""

"""
Board states: a state of a board is a fixture, and its function is the transition into it.

- `fixture`: `board_state`, which makes such a fixture. `planned`: which states a test stands on.
- `graph`: states, and the shortest path from one to another.
- `position`: where a board is, for one lease: `dut.state`. `walks`: `dut.state.reach`.
- `transitions`: runs the transitions of a path.
- `board_states`: reaches states for tests, and ends them between two tests.
- `spoiling`: which failures and marks leave a board in no known state.

`graph` and `position` do not know pytest.
"""

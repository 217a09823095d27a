"""
Before a test runs: which devices the suite requests, in which order it runs, and whether the lab can serve it.

- `preparation`: checks settings and markers, and registers what the tests need.
- `order`: tests without devices first, then grouped by device. `order_of_others`: the order of others, which stays.
  `order_by_state`: tests on one board state together.
- `parametrize`: tests that run on several boards (`selectors=…`, `--jmp-each`).
- `requirements`: skips tests whose device lacks what they need.
- `check`: `--jmp-check`. `check_machine`: what it says of this machine. `check_sheet`: its layout on the terminal.
- `collect_only`: lists the devices of tests with `--collect-only`.
- `auto_workers`: the number of workers for `-n auto`.
"""

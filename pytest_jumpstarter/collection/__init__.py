"""
Before a test runs: what the suite asks for, in which order it runs, and whether the lab can serve it.

- `order`: tests without devices first, then grouped by device.
- `parametrize`: tests that run on several boards (`selectors=…`, `--jmp-each`).
- `requirements`: skips tests whose device lacks what they need.
- `check`: `--jmp-check`. `check_sheet`: its layout on the terminal.
- `collect_only`: lists the devices of tests with `--collect-only`.
- `auto_workers`: how many workers `-n auto` means.
"""

"""
What the project costs and how fast it is, measured.

- `__main__`: the one command: every figure of the table in README.md, ours beside Jumpstarter's own client.
- `bench`: the lab that is measured on, and the board's image.
- `side`: a process that leases, calls, flashes and echoes as one of the sides does.
- `direct`: the same drivers behind a plain unix socket, with no lab in between.
- `suites`: whole pytest runs, timed from outside.
- `unused`: what a suite without devices pays.
- `table`: medians, spreads and ratios.

Two more stand alone: `cycles` counts what must not grow, `soak` runs for long under faults.
"""

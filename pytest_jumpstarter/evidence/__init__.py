"""
What this plugin puts on the reports of tests, in the process that tests.

- `record`: `Record`: all of it, as plain data: `report.jumpstarter`.
- `lease_times`: which leases and devices a test had, and when. `versions`: what the run is made of.
- `sections`: what consoles and exporters said during a test that failed.
- `artifacts`: a folder for each test that fails (`--jmp-artifacts`). `builtin`: what is collected there without a hook.
- `short_errors`: shows an error of ours by its own words instead of a traceback.
- `masked`: no secret in reports and logs.
"""

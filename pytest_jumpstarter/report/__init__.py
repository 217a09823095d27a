"""
What people see of leases and devices.

- `terminal`: lines while a lease is waited for, and what is left to do by hand at the end.
- `no_device`: tests that are skipped because no device was to be had.
- `hold`: the device of the first test that fails, left to people.
- `retried`: tests that ran again after a device error.
- `recorder`: what happened on which board, put on the reports of tests. `ledger`: all of it, summed up.
- `evidence`: what the consoles said during a test that fails, on its report. `junit_output`: and in the JUnit file.
- `artifacts`: a folder of evidence for each test that fails (`--jmp-artifacts`). `collect`: what needs no hook.
- `bookkeeper`: the ledger of a run, and the table at its end. `files`: what `--jmp-report` asks for.
- `outputs`: what a run is asked to write.
- `page`: such a file for people, from a template. `timeline`: its picture, boards by time.
- `html_columns`: our part of the page of pytest-html.
- `versions`: what a run is made of. `run_schema.json`: the form of the JSON file.
- `masked`: no secret in reports and logs.
- `outcome`: an error of ours in a test's report, in its own words instead of a traceback.
"""

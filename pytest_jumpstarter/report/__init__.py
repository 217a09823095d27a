"""
What people and machines read, in the process that prints. It reads records (evidence/record.py) and asks nobody.

- `on_demand`: brings in a part when the first report has something for it. `part`: what all parts have in common.
- `terminal`: lines while a lease is waited for, and what is left to do by hand at the end.
- `device_errors`: the verdict *device error*: word, letter, summary, exit code, JUnit.
- `retried`: tests that ran again after a device error.
- `held_devices`: the device that is left to people after a failure.
- `nothing_tested`: tests that were skipped for want of a device.
- `run_record`: `RunRecord`: what happened in a run, summed up. `run_data`: the JSON file as
  types; `run_schema.json`: the same for other programs.
- `summary_table`: the table at the end of a run. `files`: the files of `--jmp-report`.
- `page`: such a file for people, from a template. `timeline`: its picture, boards by time.
- `html_columns`: our columns on the page of pytest-html. `junit_output`: our sections in the JUnit file.
"""

"""
Output for people and machines, in the process that prints. It only reads the records of reports (evidence/record.py).

- `on_demand`: makes a part when the first report contains something for it. `part`: base class of all parts.
- `terminal`: lines during a wait for a lease, and at the end what must be done by hand.
- `device_errors`: the verdict *device error*: word, letter, summary, exit code, JUnit.
- `retried`: tests that ran again after a device error.
- `held_devices`: the device that is kept for people after a failure.
- `nothing_tested`: tests that were skipped because no device was available.
- `run_record`: `RunRecord`: collects what happened in a run. `run_data`: the JSON file as types; `run_schema.json`: the
  same for other programs.
- `summary_table`: the table at the end of a run. `files`: the files of `--jmp-report`.
- `page`: the HTML page or Markdown file, from a template. `timeline`: the chart of boards and time on that page.
- `html_columns`: our columns on the page of pytest-html. `junit_output`: our sections in the JUnit file.
"""

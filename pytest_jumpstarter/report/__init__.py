"""
Output for people and machines, in the process that prints. It only reads the records of reports (evidence/record.py).

- `on_demand`: makes a part when the first report contains something for it. `part`: base class of all parts.
- `past_capture`: writes lines while tests run, such as progress and consoles, past pytest's capture.
- `terminal`: lines during a wait for a lease, and at the end what must be done by hand.
- `progress`: transfers that take long, such as a flash, while they run.
- `run_end`: how the run ended, and the problems that are in no test's report. `exit_codes`: what each exit code means.
- `safe_output`: makes all output of a run safe.
- `no_session`: the reports of a run that ends before its session begins.
- `reasons`: why a test failed, in one line.
- `device_errors`: the verdict *device error*: word, letter, summary, JUnit.
- `retried`: tests that ran again after a device error.
- `held_devices`: the device that is kept for people after a failure.
- `nothing_tested`: tests that were skipped because no device was available.
- `run_record`: `RunRecord`: collects what happened in a run. `run_data`: the JSON file as types; `run_schema.json`: the
  same for other programs.
- `history_section`: writes the history of `--jmp-history`, and shows what it says about this run.
- `summary_table`: the table at the end of a run. `exporter_use`: its figures. `recorded_table`: the same with the
  `RunRecord`, if somebody reads that. `files`: the files of `--jmp-report` and `--jmp-metrics`. `open_metrics`: the
  format of the second. `drafts`: writes them while the run goes on. `replacing`: writes a file as a whole.
- `page`: the HTML page or Markdown file, from a template. `page_data`: the run as compact JSON, which the script of the
  page reads. `headline`: one sentence about the run. `failure_groups`: failures with an equal reason together.
  `outcomes`: which outcomes are bad. The style and the script of the page are in `templates/`.
- `html_columns`: our columns on the page of pytest-html. `junit_output`: our sections in the JUnit file. `junit_run`:
  how the run ended, in the same. `json_report`: our evidence in the file of pytest-json-report.
"""

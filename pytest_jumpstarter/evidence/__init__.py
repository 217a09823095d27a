"""
What this plugin adds to the reports of tests, in the process that tests.

- `record`: `Record`: everything that is added, as plain data: `report.jumpstarter`.
- `lease_times`: the leases and devices of a test, with their times. `versions`: the versions of all packages involved.
- `transfer_facts`: the flashes and other transfers of a test.
- `state_times`: when a board was in which of its states.
- `sections`: the output of consoles and exporters during a failed test.
- `artifacts`: a folder for each failed test (`--jmp-artifacts`). `builtin`: the evidence that is collected there by
  default.
- `metrics`: numbers that tests measure: the fixture `record_metric`.
- `named_devices`: exporter and lease in the text of a failure. `allure_results`: our evidence in results of Allure.
- `short_errors`: shows errors of this package as a message, and errors of driver calls at the line of the test.
- `call_hints`: hints on errors of wrong calls, such as "did you mean".
- `safe_records`: makes these records and the properties of devices safe, equal ones once.
- `safe_reports`: makes reports, log records and warnings safe to show.
"""

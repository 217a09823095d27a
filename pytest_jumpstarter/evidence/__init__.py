"""What this plugin puts on the reports of tests, in the process that tests."""

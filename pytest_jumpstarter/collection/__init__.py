"""Before a test runs: what the suite asks for, in which order, and whether the lab can serve it."""

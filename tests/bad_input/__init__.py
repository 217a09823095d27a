"""Bad input: one clear error that names the value and its source, no traceback of ours, and nothing left behind."""

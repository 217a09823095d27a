"""A driver that never comes up, for lab files of tests."""

import time

time.sleep(3600)

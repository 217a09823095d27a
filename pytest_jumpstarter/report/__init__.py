"""
What people see of leases and devices.

- `terminal`: lines while a lease is waited for, and what is left to do by hand at the end.
- `no_device`: tests that are skipped because no device was to be had.
- `hold`: the device of the first test that fails, left to people.
- `retried`: tests that ran again after a device error.
- `outcome`: an error of ours in a test's report, in its own words instead of a traceback.
"""

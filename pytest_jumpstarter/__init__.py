"""Lease a real board from a Jumpstarter lab for the tests that need it, and always give it back."""

"""
Clients for the services of a Jumpstarter lab controller, one package for each version of a service.

- `v1`: version 1. `exporter_sets`: exporters that are replaced after each lease, by their names.
"""

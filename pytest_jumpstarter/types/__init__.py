"""
Writes the classes of typed boards: `python -m pytest_jumpstarter.types FILE-OR-SELECTOR -o boards.py`.

- `__main__`: the command line.
- `exporter_trees`: leases exporters, of the embedded lab or of the lab in the client config, and reads their drivers.
- `class_writer`: the Python text of the classes.
"""

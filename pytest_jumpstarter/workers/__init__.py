"""
Many processes in one run: pytest-xdist's controller process, and its workers, each with devices of its own.

- `hub`: `Hub`, the socket in the controller process, by which workers reach people and the lab.
- `link`: `Link`, a worker's end of it.
- `crew`: `Crew`, what the controller process does for its workers: one run id, one lab, and it sweeps up after them.
- `number`: how many workers `-n auto` means.
"""

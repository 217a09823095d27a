"""
What runs learned: results by test, board and commit, and what they say about boards, product and tests.

It knows neither pytest nor the lab. `report` writes it and `collection` reads it.

- `results`: the types of what is kept.
- `schema`: the tables of a file. `rows`: add and remove rows. `file`: `HistoryFile`, one file. `store`: `History`, one
  file or a folder of files.
- `exact`: exact probabilities. `verdicts`: whether failures follow the board or the product, flaky and slower tests.
- `board_health`: device errors and time to ready of each board.
- `export`: results as CSV and JSON. `__main__`: `python -m pytest_jumpstarter.history`.
"""

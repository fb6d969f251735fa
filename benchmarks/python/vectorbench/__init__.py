"""The parts of `vectors.py`: data sets, adapters, child processes, rows of the table, pictures."""

"""The bus in one process: a log in an SQLite file."""

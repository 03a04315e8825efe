"""The bus within one process: a log in a SQLite file."""

"""Ingest: checks the changes that repositories announce, appends them to the log, and answers queries."""

"""Ingest: checks what repositories announce, puts it onto the log, and answers."""

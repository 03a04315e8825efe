"""Ingest's views of the log: the published state, and the requests that it accepted recently."""

"""Ingest's metrics for Prometheus."""

from prometheus_client import Counter, Histogram

requests = Histogram("tufline_ingest_request_seconds", "Time to answer a request.", ["method", "route", "status"])
accepted = Counter("tufline_ingest_changes", "Changes that were accepted.", ["op"])
refused = Counter("tufline_ingest_refused", "Requests and lines that were refused.")
append_seconds = Histogram("tufline_ingest_append_seconds", "Time until the log has a request.")
visible_seconds = Histogram(
    "tufline_accept_to_visible_seconds",
    "Time from an accepted request to its commit being published.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
events = Counter("tufline_ingest_events", "Records of the inbox that were moved.", ["outcome"])
move_seconds = Histogram("tufline_ingest_move_seconds", "Time until the log has some records of the inbox where they belong.")

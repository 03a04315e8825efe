"""The publisher's Prometheus metrics."""

from prometheus_client import Counter, Gauge, Histogram

published = Counter("tufline_publisher_commits", "Commits published to the origin.")
files = Counter("tufline_publisher_files", "Files uploaded to the origin.")
file_bytes = Counter("tufline_publisher_file_bytes", "Bytes of the files uploaded to the origin.")
refused = Counter("tufline_publisher_refused", "Files of the log that were not published because clients would refuse them.")
deleted = Counter("tufline_publisher_deleted", "Superseded files deleted from the origin.")
publish_seconds = Histogram("tufline_publisher_publish_seconds", "Seconds from reading a commit to publishing it at the origin.")
timestamp_version = Gauge("tufline_publisher_timestamp_version", "Version of the published timestamp.")

"""What the publisher counts, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

published = Counter("tufline_publisher_commits", "Commits that the origin shows.")
files = Counter("tufline_publisher_files", "Files that were put at the origin.")
file_bytes = Counter("tufline_publisher_file_bytes", "Bytes of files that were put at the origin.")
refused = Counter("tufline_publisher_refused", "Files of the log that a client would refuse, and that were not published.")
deleted = Counter("tufline_publisher_deleted", "Superseded files that were deleted.")
publish_seconds = Histogram("tufline_publisher_publish_seconds", "Time from a commit's arrival to the origin showing it.")
timestamp_version = Gauge("tufline_publisher_timestamp_version", "Version of the timestamp that the origin shows.")

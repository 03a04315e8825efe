"""What the signer counts, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

changes = Counter("tufline_signer_changes", "Changes that were brought into bins.")
bins_signed = Counter("tufline_signer_bins", "Bins that were signed.")
bin_bytes = Counter("tufline_signer_bin_bytes", "Bytes of signed bins.")
bins_read_back = Counter("tufline_signer_bins_read_back", "Bins that were not in memory and were read back from the log.")
cache_bytes = Gauge("tufline_signer_cache_bytes", "Memory that bins take, about.")
renewals = Counter("tufline_signer_renewals", "Bins that were signed anew ahead of their expiry.")
commits = Counter("tufline_signer_commits", "Commits: new snapshots and timestamps.", ["kind"])
commit_seconds = Histogram("tufline_signer_commit_seconds", "Time to make, sign and append a commit.")
expires = Gauge("tufline_role_expires_timestamp_seconds", "When a role's newest version expires, in seconds since 1970.", ["role"])
audit_seconds = Histogram("tufline_signer_audit_seconds", "Time until the uses of keys by one call were on record.")

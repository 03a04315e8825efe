"""The signer's Prometheus metrics."""

from prometheus_client import Counter, Gauge, Histogram

changes = Counter("tufline_signer_changes", "Changes applied to bins.")
bins_signed = Counter("tufline_signer_bins", "Bins signed.")
bin_bytes = Counter("tufline_signer_bin_bytes", "Bytes of signed bins.")
bins_read_back = Counter("tufline_signer_bins_read_back", "Bins read back from the log because they were not in memory.")
cache_bytes = Gauge("tufline_signer_cache_bytes", "Approximate memory of the cached bins, in bytes.")
held_changes = Gauge("tufline_signer_held_changes", "Changes that are held until they are published.", ["partition"])
renewals = Counter("tufline_signer_renewals", "Bins renewed ahead of their expiry.")
commits = Counter("tufline_signer_commits", "Commits: new snapshots and timestamps.", ["kind"])
commit_seconds = Histogram("tufline_signer_commit_seconds", "Seconds to make, sign and append a commit.")
expires = Gauge("tufline_role_expires_timestamp_seconds", "When a role's newest version expires, in seconds since 1970.", ["role"])
audit_seconds = Histogram("tufline_signer_audit_seconds", "Seconds until one call's uses of keys were recorded in the audit trail.")

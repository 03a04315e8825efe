"""The rules for root and top-level targets: what is accepted, and what clients of a profile accept."""

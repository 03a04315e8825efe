"""Checking the audit trail: its chains, its signatures, and that it has a record of each online signature in a published file."""

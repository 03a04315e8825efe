"""Checking the audit trail: its chains, its signatures, and that each online signature of a published file is on record."""

"""Checking the audit trail: its chains, its signatures, and that each published file is on record."""

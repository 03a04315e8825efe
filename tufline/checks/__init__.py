"""Checks that an operator runs: comparing the log with the origin, and verifying the audit trail."""

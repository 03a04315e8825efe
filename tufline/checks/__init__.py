"""Checks that an operator runs: the log against the origin, and the audit trail."""

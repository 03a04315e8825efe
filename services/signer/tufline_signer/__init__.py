"""Signer: makes and signs bins, snapshot and timestamp from the log."""

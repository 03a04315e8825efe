"""Proofs that take longer than a test, and the program that runs and records them (``nightly``)."""

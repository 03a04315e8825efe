"""Proofs that take longer than tests, and the program ``nightly``, which runs and records them."""

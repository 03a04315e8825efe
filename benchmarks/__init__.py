"""Benchmarks: the source of all performance figures."""

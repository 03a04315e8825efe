"""Fuzzing: hostile bytes for every decoder, changed payloads for everything that is signed."""

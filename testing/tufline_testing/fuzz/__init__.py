"""Fuzzing: hostile bytes for every decoder, and modified payloads for everything that is signed."""

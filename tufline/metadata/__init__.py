"""TUF metadata, and nothing else: targets, bins, snapshots, files. Pure: bytes in, bytes out, no I/O."""

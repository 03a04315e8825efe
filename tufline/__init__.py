"""Tufline keeps the TUF metadata of any repository, at any scale.

The library holds what all services share: the pure core (model, canonical JSON, bins, snapshot, trust), the bus, the keys and the
stores. The services under ``services/`` are built on it; it imports none of them, but for the command line, which composes them.
"""

__version__ = "0.1.0"

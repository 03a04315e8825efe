"""Tufline maintains the TUF metadata of any repository, at any scale.

This library has all that the services share: the pure core (canonical JSON, bins, snapshot, trust), the bus, the keys and the origin.
The services under ``services/`` and the command line under ``cli/`` are built on it; it imports none of them.
"""

__version__ = "0.1.0"

"""The rules for root and top-level targets: which versions Tufline accepts, and which the clients of a profile accept."""

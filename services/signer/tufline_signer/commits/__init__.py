"""The commit half: new bins, root and targets become a snapshot and a timestamp."""

"""What ingest knows of the log: what is live, and which requests it accepted lately."""

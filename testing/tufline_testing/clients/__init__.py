"""TUF clients in three languages, built and run."""

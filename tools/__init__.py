"""Programs that keep the repository in order: the demo, and what generates schemas and tables."""

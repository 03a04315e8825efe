"""Programs for maintaining the repository: the demo, checks, and generators of schemas and tables."""

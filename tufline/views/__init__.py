"""State derived from topics, shared by the services."""

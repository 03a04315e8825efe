"""The soak: the services on three brokers, broken again and again under load."""

"""The soak: the services on three brokers, with repeated faults under load."""

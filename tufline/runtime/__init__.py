"""What makes a process of services: partitions, takeover, health, logging, metrics, HTTP."""

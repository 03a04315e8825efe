"""The parts of a process that runs services: partitions, takeover, health, logging, metrics, HTTP."""

"""Clients for programs that publish artifacts: events over Kafka (``events``), and the REST API (``rest``)."""

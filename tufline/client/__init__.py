"""For repositories: events over Kafka (``events``) and the REST API (``rest``)."""

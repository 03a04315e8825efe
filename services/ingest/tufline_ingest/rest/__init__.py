"""The REST API: requests, answers, tasks, and their description in OpenAPI."""

"""Publisher: publishes the repository's metadata to an origin, in an order that is safe for clients at every moment."""

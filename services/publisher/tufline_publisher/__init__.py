"""Publisher: brings the repository's metadata to an origin, in an order that no client can stumble over."""

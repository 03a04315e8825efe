"""The origin: the store that clients and the CDN read, its owner, and a web server for it."""

"""The published side: the store that clients and the CDN read, who owns it, and a web server for it."""

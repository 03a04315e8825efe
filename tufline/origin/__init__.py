"""The origin: the store that the CDN and TUF clients read, the log that owns it, and a web server for it."""

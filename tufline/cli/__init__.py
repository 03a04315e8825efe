"""The command line: composes the services into processes, and speaks to them."""

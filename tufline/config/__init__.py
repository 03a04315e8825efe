"""The configuration: settings, the kinds of values that they take, and where the values come from."""

"""The configuration: settings, and the kinds of values that they take."""

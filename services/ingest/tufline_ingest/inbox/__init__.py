"""Events of the topic ``inbox``: each is checked, and accepted or rejected exactly once."""

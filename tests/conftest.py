"""What all tests share."""

from hypothesis import settings

# A shared machine is slow at times: a slow example is no failure.
settings.register_profile("tufline", deadline=None, print_blob=True)
settings.load_profile("tufline")

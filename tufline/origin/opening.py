"""Opening the configured origin: the only module that selects the implementation of ``Store``.

In: the configuration. Out: a ``Store``. So far the only implementation is a directory.
"""

from tufline.config.settings import Config
from tufline.origin.directory import LocalStore
from tufline.origin.store import Store


def open_store(config: Config) -> Store:
    """Open the configured origin.

    Args:
        config: the process's configuration.

    Returns:
        The origin's store. A directory that does not exist is created.

    Raises:
        StoreError: if the origin can't be used.
    """
    return LocalStore(config.publisher.directory)

"""What all tests share."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from kafka_cluster import Cluster, MissingPartError, jars, java

# A shared machine is slow at times: a slow example is no failure.
settings.register_profile("tufline", deadline=None, print_blob=True)
settings.load_profile("tufline")


@pytest.fixture(scope="session")
def kafka_parts() -> None:
    """Make sure that Apache Kafka can be run."""
    try:
        java()
        jars()
    except MissingPartError as error:
        if os.environ.get("CI_RUN"):
            raise
        pytest.skip(f"NO KAFKA, so nothing is shown about it: {error}")


@pytest.fixture(scope="session")
def kafka(kafka_parts: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run one broker of Apache Kafka, for all tests of this process."""
    cluster = Cluster(tmp_path_factory.mktemp("kafka"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()

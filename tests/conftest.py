"""Fixtures and options that all tests share."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from tufline_testing.clients import builds
from tufline_testing.clients.running import Client, all_clients, oldest_clients
from tufline_testing.repository_logs import EmbeddedLog, KafkaLog, Log
from tufline_testing.servers.jdk import java
from tufline_testing.servers.kafka_cluster import Cluster, classes, jars
from tufline_testing.servers.openbao import bao
from tufline_testing.servers.parts import MissingPartError
from tufline_testing.servers.shared_kafka import shared_broker
from tufline_testing.servers.vault_server import VaultServer, vault_server
from tufline_testing.skips import pytest_runtest_makereport, pytest_terminal_summary  # noqa: F401 (pytest finds hooks by their names)

# A shared machine is slow at times: a slow example is not a failure.
settings.register_profile("tufline", deadline=None, print_blob=True)
settings.load_profile("tufline")
# testing/tufline_testing/proofs/mutate_pure.py only needs to know whether a test fails, not the smallest example.
settings.register_profile("mutation", settings.get_profile("tufline"), phases=(Phase.explicit, Phase.generate), database=None)


@pytest.hookimpl(trylast=True)  # after pytest-randomly has shuffled them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the tests with the longest time limits first: one that started last would keep only one worker busy, for minutes."""

    def limit(item: pytest.Item) -> float:
        mark = item.get_closest_marker("timeout")
        return 0.0 if mark is None else float(mark.args[0])

    items.sort(key=limit, reverse=True)


@contextmanager
def or_skip(name: str) -> Iterator[None]:
    """Skip tests whose part is not available, and report loudly that their guarantee is not checked."""
    try:
        yield
    except MissingPartError as error:
        pytest.skip(f"NO {name}, so nothing is shown about it: {error}")


@pytest.fixture(scope="session")
def kafka_parts() -> None:
    """Make sure that Apache Kafka can be run."""
    with or_skip("KAFKA"):
        java()
        jars()
        classes()


@pytest.fixture(scope="session")
def kafka(kafka_parts: None, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Use one broker of Apache Kafka, which all workers share: a test has topics of its own, and does not end or pause the broker."""
    of_run = tmp_path_factory.getbasetemp()
    with shared_broker((of_run if worker_id == "master" else of_run.parent) / "kafka") as cluster:
        yield cluster


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.slow)])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Log:
    """Make a log on each bus, so that a test of a flow runs twice."""
    if request.param == "embedded":
        return EmbeddedLog(tmp_path / "log.db")
    cluster: Cluster = request.getfixturevalue("kafka")
    return KafkaLog(cluster.bootstrap)


@pytest.fixture(scope="session")
def clients() -> Iterator[list[Client]]:
    """Run TUF clients in three languages, for all tests of this process."""
    with ExitStack() as stack:
        with or_skip("CLIENTS OF OTHER LANGUAGES"):
            running = stack.enter_context(all_clients())
        yield running


@pytest.fixture(scope="session")
def every_client(clients: list[Client]) -> Iterator[list[Client]]:
    """Run the same clients, and the oldest supported version of each, for all tests of this process."""
    with ExitStack() as stack:
        with or_skip("CLIENTS OF OTHER LANGUAGES"):
            oldest = stack.enter_context(oldest_clients())
        yield [*clients, *oldest]


@pytest.fixture(scope="session")
def rstuf_python() -> Path:
    """Install RSTUF's command line; return the Python that has it."""
    with or_skip("RSTUF'S COMMAND LINE"):
        return builds.rstuf()


@pytest.fixture(scope="session")
def vault_parts() -> None:
    """Make sure that OpenBao can be run."""
    with or_skip("VAULT"):
        bao()


@pytest.fixture(scope="session")
def vault(vault_parts: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultServer]:
    """Run one undisturbed OpenBao for all tests of this process."""
    with vault_server(tmp_path_factory.mktemp("vault")) as server:
        yield server


@pytest.fixture
def own_vault(vault_parts: None, tmp_path: Path) -> Iterator[VaultServer]:
    """Run a separate OpenBao, which the test may break."""
    with vault_server(tmp_path / "vault") as server:
        yield server

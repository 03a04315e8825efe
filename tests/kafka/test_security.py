"""A cluster that accepts only encrypted connections with a login (SASL_SSL)."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tufline.bus import Message
from tufline.bus.kafka.bus import open_kafka
from tufline.bus.kafka.topic_admin import TopicAdmin
from tufline.bus.topic import Cleanup, Topic
from tufline.config.settings import KafkaConfig
from tufline.errors import BusError, ConfigError
from tufline.runtime.open_bus import connection
from tufline_testing.certificates import make_certificates
from tufline_testing.servers.kafka_cluster import Cluster

pytestmark = pytest.mark.slow

USER, PASSWORD = "tufline", "a-secret-of-the-test"
TOPICS = {"plain": Topic("plain", 1, Cleanup.KEEP)}
SCRAM = f'org.apache.kafka.common.security.scram.ScramLoginModule required username="{USER}" password="{PASSWORD}";'
BEARER = 'org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'


@pytest.fixture(scope="module")
def secure(kafka_parts: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Path]]:
    """Run a broker that requires SASL_SSL."""
    directory = tmp_path_factory.mktemp("secure")
    make_certificates(directory, "broker")
    settings = {
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": SCRAM,
        "listener.name.sasl_ssl.oauthbearer.sasl.jaas.config": BEARER,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(directory / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(directory / "ca.pem"),
    }
    cluster = Cluster(directory / "kafka", settings=settings, protocol="SASL_SSL")
    try:
        cluster.start(["--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"])
        yield cluster, directory
    finally:
        cluster.stop()


def unsecured_token(directory: Path) -> Path:
    """Write a token that this test's broker accepts: unsigned, and valid for a day."""
    now = int(time.time())

    def part(content: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    path = directory / "token"
    path.write_text(f"{part({'alg': 'none'})}.{part({'sub': USER, 'iat': now, 'exp': now + 86_400})}.\n")
    return path


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "OAUTHBEARER"])
async def test_a_client_that_logs_in_can_write_and_read(secure: tuple[Cluster, Path], mechanism: str) -> None:
    """With the configured login and certificate authority, topics are made, written in a transaction and read."""
    cluster, directory = secure
    login = {"username": USER, "password": PASSWORD} if mechanism != "OAUTHBEARER" else {"token_file": unsecured_token(directory)}
    settings = {"security_protocol": "SASL_SSL", "sasl_mechanism": mechanism, "ca_file": directory / "ca.pem", **login}
    config = KafkaConfig.model_validate({**settings, "prefix": f"{mechanism}."})
    to_cluster = connection(config, cluster.bootstrap)
    async with TopicAdmin(to_cluster, TOPICS, 1) as admin:
        await admin.apply()
    bus = await open_kafka(to_cluster, TOPICS, max_pending_bytes=1000)
    try:
        writer = await bus.writer("w")
        await writer.commit([Message("plain", "k", b"v")])
        assert [record.value for record in await bus.reader("plain", 0, 0).fetch(max_wait=10)] == [b"v"]
    finally:
        await bus.close()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"password": "wrong"}, BusError, "certificate and login"),
        ({"ca_file": None}, BusError, "certificate and login"),
        ({"security_protocol": "PLAINTEXT"}, BusError, "certificate and login"),
        ({"username": ""}, ConfigError, "needs kafka.username"),
        ({"ca_file": "/nowhere/ca.pem"}, ConfigError, "kafka.ca_file"),
        ({"sasl_mechanism": "OAUTHBEARER"}, ConfigError, "needs kafka.token_file"),
    ],
)
async def test_a_failed_login_is_reported(secure: tuple[Cluster, Path], change: dict[str, str], error: type[Exception], says: str) -> None:
    """A wrong login, or an untrusted cluster, is a clear error that never shows the password."""
    cluster, directory = secure
    right = {"security_protocol": "SASL_SSL", "username": USER, "password": PASSWORD, "ca_file": directory / "ca.pem"}
    with pytest.raises(error, match=says) as raised:
        await open_kafka(connection(KafkaConfig.model_validate(right | change), cluster.bootstrap), TOPICS, max_pending_bytes=1000)
    assert PASSWORD not in str(raised.value)

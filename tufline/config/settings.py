"""The configuration of a process: every setting with its default, its unit and its check.

``tufline.config.loading`` finds the values. A bootstrap sets the lifetimes of metadata for its repository, so they are not settings
(``tufline.trust.ceremony`` has their defaults).
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tufline.config.kinds import (
    HOUR_SECONDS,
    YEAR_SECONDS,
    BusUrl,
    Bytes,
    CommaSeparated,
    Interval,
    KafkaName,
    Keeping,
    Pause,
    Port,
    Seconds,
)
from tufline.metadata.paths import check_encoded_path, check_new_path
from tufline.metadata.profiles import RSTUF, Profile, hash_algorithms
from tufline.metadata.target import DEFAULT_HASH_ALGORITHMS, TargetRules
from tufline.reference_clock import DEFAULT_TOLERANCE_SECONDS

ENV_PREFIX: Final = "TUFLINE_"
ENV_DELIMITER: Final = "__"

TIMESTAMP_MAX_AGE_SECONDS: Final = 5
"""How long caches may keep timestamp.json, and a 404: clients request the next root at each refresh, which may not exist yet."""

DEFAULT_PARTITIONS: Final = 4
DEFAULT_MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
DEFAULT_BULK_LINE_BYTES: Final = 16 * 1024
DEFAULT_INBOX_DEDUP_EVENTS: Final = 50_000
DEFAULT_MAX_ROLES: Final = 32_768
"""How many names snapshot may have: every client loads some 33 bytes for each, a megabyte in all."""
DEFAULT_MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
DEFAULT_SESSION_SECONDS: Final = 6.0
MAX_SESSION_SECONDS: Final = 1_800.0
"""The brokers' default limit (``group.max.session.timeout.ms``)."""

DEFAULT_BIN_MEMORY_BYTES: Final = 128 * 1024 * 1024
DEFAULT_BATCH_MAX_BYTES: Final = 96 * 1024 * 1024
DEFAULT_BATCH_DELAY_SECONDS: Final = 0.0
DEFAULT_COMMIT_INTERVAL_SECONDS: Final = 0.25
DEFAULT_COMMIT_DELAY_SECONDS: Final = 0.01
DEFAULT_RENEW_FRACTION: Final = 0.5
DEFAULT_RENEWAL_CHECK_SECONDS: Final = 10.0
DEFAULT_RELEASE_DELAY_SECONDS: Final = 60.0
RSTUF_RELEASE_DELAY_SECONDS: Final = 5.0
"""The default for repositories of RSTUF's clients, which poll an update 60 times at most, once a second (docs/adr/0005)."""

DEFAULT_RELEASE_GRACE_SECONDS: Final = 3_600.0
DEFAULT_SUPERSEDED_RETENTION_SECONDS: Final = 86_400.0
DEFAULT_VAULT_TIMEOUT_SECONDS: Final = 10.0
DEFAULT_VAULT_RETRY_SECONDS: Final = 5.0
DEFAULT_MAX_HELD_CHANGES: Final = 10_000
DEFAULT_MAX_PENDING_CHANGES: Final = 10_000
MAX_HELD_CHANGES: Final = 50_000
"""If all held changes belong to one bin, more could not be released in one transaction."""
HELD_WARNING_FRACTION: Final = 0.8
"""A partition that holds more than this fraction of the allowed changes is reported as a warning."""
DEFAULT_VAULT_CONNECTIONS: Final = 4
DEFAULT_MAX_CONNECTIONS: Final = 1_000
DEFAULT_IDLE_SECONDS: Final = 30.0
KUBERNETES_TOKEN_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


HashAlgorithm = Literal["sha256", "sha512", "sha224", "sha384", "blake2b-256"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BusConfig(_Section):
    """The log that all services share."""

    url: BusUrl = Field(
        "embedded:tufline-data/log.db",
        description="The bus: 'embedded:<file>' for one process without a server, or 'kafka:<host>:<port>,…' (see [kafka]).",
    )
    partitions: Annotated[int, Field(ge=1, le=256)] = Field(
        DEFAULT_PARTITIONS, description="Partitions of 'artifacts': a power of two, which can't be changed once the log exists."
    )
    max_pending_bytes: Bytes = Field(
        DEFAULT_MAX_PENDING_BYTES, description="How many bytes may wait to be written before requests are answered with 503."
    )


class KafkaConfig(_Section):
    """The connection to Kafka, if bus.url names it."""

    prefix: KafkaName = Field("tufline.", description="Prefix of all topics, groups and transactional ids; each repository needs its own.")
    replicas: Annotated[int, Field(ge=1, le=9)] = Field(
        3, description="Copies of each topic. A write is acknowledged when all but one of them have it."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="The security protocol, by the name that Kafka's clients use."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        "SCRAM-SHA-512", description="How to log in, if security_protocol starts with SASL."
    )
    username: str = Field("", description="User name for PLAIN and SCRAM.")
    password: SecretStr = Field(SecretStr(""), description="Password for PLAIN and SCRAM.")
    ca_file: Path | None = Field(None, description="CA certificates (PEM) to verify the brokers with; by default the system's.")
    certificate_file: Path | None = Field(None, description="Client certificate (PEM), if the brokers require one.")
    key_file: Path | None = Field(None, description="Private key (PEM) of the client certificate.")
    token_file: Path | None = Field(None, description="File with the token for OAUTHBEARER, read again for each connection.")
    session_timeout: Annotated[float, Seconds(1, MAX_SESSION_SECONDS)] = Field(
        DEFAULT_SESSION_SECONDS,
        description="After this many seconds without a heartbeat a process counts as dead, and others take over its partitions.",
    )
    instance_id: KafkaName = Field(
        "",
        description="Identifies this process across restarts (static membership): its partitions wait for it for session_timeout. "
        "If empty, it leaves the group when it stops.",
    )


class IngestConfig(_Section):
    """The REST API."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8080, description="Port to listen on; 0 for any free one.")
    max_request_bytes: Bytes = Field(DEFAULT_MAX_REQUEST_BYTES, description="The largest JSON request body.")
    bulk_line_bytes: Bytes = Field(DEFAULT_BULK_LINE_BYTES, description="The longest line of a bulk request.")
    hash_algorithms: Annotated[tuple[HashAlgorithm, ...], *CommaSeparated] = Field(
        DEFAULT_HASH_ALGORITHMS,
        min_length=1,
        description="Hash algorithms that targets may have. tuf-js and go-tuf know only sha256 and sha512: a repository with the client "
        "profile 'standard' ignores others, and accepts both if neither of the two is named. "
        "Comma-separated in the environment.",
    )
    encoded_paths: bool = Field(
        False,
        description="Whether target paths are URL paths as clients send them, which may have percent-encoded characters (a%2Bb.whl). "
        "Otherwise a '%' is refused.",
    )
    origin: str = Field("origin", description="The origin at which a task's changes must be published for the task to be done.")
    inbox_dedup_events: Annotated[int, Field(ge=1)] = Field(
        DEFAULT_INBOX_DEDUP_EVENTS,
        description="How many accepted events of each partition of the inbox are recognized when sent again; 300 bytes of memory each.",
    )

    max_roles: Annotated[int, Field(ge=2)] = Field(
        DEFAULT_MAX_ROLES,
        description="How many bins and custom roles a repository may ever have. Snapshot names all of them, also deleted ones, and every "
        "client loads some 33 bytes for each name.",
    )

    def allowed(self, profile: Profile) -> TargetRules:
        """Return the rules for targets.

        Args:
            profile: the repository's profile.

        Returns:
            The allowed hash algorithms, and the check of paths.
        """
        return TargetRules(hash_algorithms(profile, self.hash_algorithms), check_encoded_path if self.encoded_paths else check_new_path)


class SignerConfig(_Section):
    """Bins, snapshot and timestamp."""

    key_dir: Path = Field(Path("tufline-data/keys"), description="Directory of online keys in files ('fn:<file>').")
    hsm_pin: SecretStr = Field(SecretStr(""), description="PIN of the PKCS#11 token for online keys with the URI 'hsm:…'.")
    hsm_pin_file: Path | None = Field(None, description="File with the PIN, instead of hsm_pin.")
    bin_memory_bytes: Bytes = Field(
        DEFAULT_BIN_MEMORY_BYTES, description="Memory for the content of bins, in bytes; other bins are read from the log again."
    )
    batch_max_bytes: Bytes = Field(
        DEFAULT_BATCH_MAX_BYTES, description="The largest batch of changes, in bytes of memory; bins are dropped from memory for it."
    )
    batch_delay: Pause = Field(
        DEFAULT_BATCH_DELAY_SECONDS,
        description="How long to wait for more changes before a batch, in seconds; with a backlog it waits longer automatically.",
    )
    commit_interval: Pause = Field(
        DEFAULT_COMMIT_INTERVAL_SECONDS,
        description="The shortest time between two snapshots, in seconds; every client has to download each one.",
    )
    commit_delay: Pause = Field(
        DEFAULT_COMMIT_DELAY_SECONDS, description="How long a commit waits for the other partitions of the same requests, in seconds."
    )
    renew_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        DEFAULT_RENEW_FRACTION,
        description="A role is renewed when less than this fraction of its lifetime is left; bins are renewed over the time before.",
    )
    renewal_check: Interval = Field(DEFAULT_RENEWAL_CHECK_SECONDS, description="How often to look for roles to renew, in seconds.")
    release_delay: Keeping | None = Field(
        None,
        description="When an online key changes: how long timestamp and snapshot are signed with both keys before the new root is "
        "published, in seconds. Must be longer than any cache keeps timestamp.json. By default "
        f"{DEFAULT_RELEASE_DELAY_SECONDS:g}, and {RSTUF_RELEASE_DELAY_SECONDS:g} with the client profile 'rstuf'.",
    )
    release_grace: Keeping = Field(
        DEFAULT_RELEASE_GRACE_SECONDS,
        description="When an online key has changed: how long the old key also signs, in seconds. When all keys of targets have changed: "
        "how long targets that only the new keys signed wait. Must be longer than any cache keeps the answer that a newer root does not "
        "exist.",
    )
    max_held_changes: Annotated[int, Field(ge=0, le=MAX_HELD_CHANGES)] = Field(
        DEFAULT_MAX_HELD_CHANGES,
        description="How many changes each partition may hold until they are published; in memory they may have as many kilobytes. "
        "Further ones are refused.",
    )
    max_pending_changes: Annotated[int, Field(ge=0, le=MAX_HELD_CHANGES)] = Field(
        DEFAULT_MAX_PENDING_CHANGES,
        description="How many changes may wait in each partition until people sign the custom roles that they are for; in memory they may "
        "have as many kilobytes. Further ones are refused.",
    )
    audit_file: Path | None = Field(
        None,
        description="File for a copy of the audit trail, different for each process, or '-' for standard output. The topic 'audit' always "
        "has the trail.",
    )

    def release_delay_of(self, profile: Profile) -> float:
        """Return how long a root that changes an online key is held back.

        Args:
            profile: of the repository.

        Returns:
            The setting; without one the profile's default, in seconds.
        """
        if self.release_delay is not None:
            return self.release_delay
        return RSTUF_RELEASE_DELAY_SECONDS if profile == RSTUF else DEFAULT_RELEASE_DELAY_SECONDS


class VaultConfig(_Section):
    """The connection to HashiCorp Vault or OpenBao, if it holds online keys ('vault:<mount>/<key>#<version>')."""

    address: str = Field("https://127.0.0.1:8200", description="URL of the server; it must use https, except on this machine.")
    namespace: str = Field("", description="Namespace of the login and the keys, if the server has namespaces.")
    auth: Literal["token", "approle", "kubernetes"] = Field("approle", description="How to log in.")
    auth_mount: str = Field("", description="Path of the login method, if it differs from the method's name.")
    token: SecretStr = Field(SecretStr(""), description="Token for auth = token.")
    token_file: Path | None = Field(None, description="File with the token, instead of token; read again at each login.")
    role: str = Field("", description="The signer's role: the RoleID for approle, or the role's name for kubernetes.")
    secret_id: SecretStr = Field(SecretStr(""), description="SecretID for auth = approle.")
    secret_id_file: Path | None = Field(None, description="File with the SecretID, instead of secret_id; read again at each login.")
    jwt_file: Path = Field(KUBERNETES_TOKEN_FILE, description="File with the service account's token, for auth = kubernetes.")
    ca_file: Path | None = Field(None, description="CA certificates (PEM) to verify the server with; by default the usual ones.")
    timeout: Interval = Field(DEFAULT_VAULT_TIMEOUT_SECONDS, description="How long to wait for each answer, in seconds.")
    retry: Pause = Field(
        DEFAULT_VAULT_RETRY_SECONDS,
        description="How long to retry after a temporary error, in seconds; then the work fails with the reason, and starts again.",
    )
    connections: Annotated[int, Field(ge=1, le=64)] = Field(DEFAULT_VAULT_CONNECTIONS, description="The most calls at the same time.")

    @field_validator("address")
    @classmethod
    def _never_in_plain_text(cls, address: str) -> str:
        url = urlsplit(address)
        if url.scheme not in {"http", "https"} or not url.hostname or url.username is not None:
            raise ValueError("write https://<host>:<port>")
        if url.scheme == "http" and not _is_this_machine(url.hostname):
            raise ValueError("a token would be sent over the network in plain text: use https")
        return address.rstrip("/")


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class PublisherConfig(_Section):
    """The origin."""

    origin: str = Field("origin", description="Name of this publisher's origin.")
    directory: Path = Field(Path("tufline-data/origin/metadata"), description="Directory in which the metadata files are published.")
    superseded_retention: Annotated[float, Seconds(TIMESTAMP_MAX_AGE_SECONDS, YEAR_SECONDS)] = Field(
        DEFAULT_SUPERSEDED_RETENTION_SECONDS,
        description="How long a file is kept after the last published snapshot that named it, in seconds. Must be longer than caches keep "
        "timestamp.json, and than a client takes to refresh.",
    )


class HttpConfig(_Section):
    """Limits of every built-in HTTP server: the REST API, the origin's web server, and the operators' endpoint."""

    max_connections: Annotated[int, Field(ge=8, le=100_000)] = Field(
        DEFAULT_MAX_CONNECTIONS,
        description="The most connections of each server; an idle one is closed for a new one. A low limit of open files reduces it.",
    )
    idle_timeout: Annotated[float, Seconds(1, HOUR_SECONDS)] = Field(
        DEFAULT_IDLE_SECONDS,
        description="How long the server waits for a client, in seconds: for the complete head of a request, for 1 kB of its body, or "
        "until it reads the answer.",
    )


DEFAULT_HTTP: Final = HttpConfig()


class WebConfig(_Section):
    """The built-in HTTP server of the origin."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8081, description="Port to listen on; 0 for any free one.")
    targets: Path | None = Field(None, description="Directory of the repository's own files, served at /targets/ next to /metadata/.")


class OpsConfig(_Section):
    """The operators' HTTP endpoint (/healthz, /readyz, /metrics) of a separate signer or publisher process; ingest serves it itself."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8082, description="Port to listen on; 0 for any free one.")


class ClockConfig(_Section):
    """The machine's clock, which is compared with the log's."""

    tolerance: Interval = Field(DEFAULT_TOLERANCE_SECONDS, description="A larger difference, in seconds, is reported as a problem.")


class LogConfig(_Section):
    """The process's log output."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The lowest level that is logged.")
    format: Literal["auto", "json", "console"] = Field("auto", description="'auto' is console format on a terminal, otherwise JSON.")


class Config(BaseSettings):
    """Every setting of Tufline."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_prefix=ENV_PREFIX, env_nested_delimiter=ENV_DELIMITER)

    bus: BusConfig = BusConfig()
    kafka: KafkaConfig = KafkaConfig()
    ingest: IngestConfig = IngestConfig()
    signer: SignerConfig = SignerConfig()
    vault: VaultConfig = VaultConfig()
    publisher: PublisherConfig = PublisherConfig()
    web: WebConfig = WebConfig()
    ops: OpsConfig = OpsConfig()
    http: HttpConfig = HttpConfig()
    clock: ClockConfig = ClockConfig()
    log: LogConfig = LogConfig()

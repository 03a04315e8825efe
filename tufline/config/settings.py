"""The configuration: every setting, its default, its unit and where its value came from.

A value comes from, the first that has it: the command line, an environment variable (``TUFLINE_SIGNER__KEY_DIR``), a TOML file
(``tufline.toml``, or ``--config``), the default here. ``tufline config`` prints what is in force and from where.
"""

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

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
    seconds,
)
from tufline.errors import ConfigError
from tufline.metadata.paths import check_encoded_path, check_new_path
from tufline.metadata.profiles import Profile, hash_algorithms
from tufline.metadata.target import DEFAULT_HASH_ALGORITHMS, Allowed
from tufline.reference_clock import DEFAULT_TOLERANCE_SECONDS

ENV_PREFIX: Final = "TUFLINE_"
ENV_DELIMITER: Final = "__"
DEFAULT_FILE: Final = Path("tufline.toml")

OF_A_CHECK: Final = "Value error, "
"""Before what a check of ours says, pydantic puts this."""

TIMESTAMP_MAX_AGE_SECONDS: Final = 5
"""How long they may keep timestamp.json, and the answer that a file does not exist (yet): clients ask for the next root at each refresh."""

DEFAULT_PARTITIONS: Final = 4
DEFAULT_MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
DEFAULT_BULK_LINE_BYTES: Final = 16 * 1024
DEFAULT_INBOX_DEDUP_EVENTS: Final = 50_000
DEFAULT_MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
DEFAULT_SESSION_SECONDS: Final = 6.0
MAX_SESSION_SECONDS: Final = 1_800.0
"""As brokers have it by default (``group.max.session.timeout.ms``)."""

DEFAULT_BIN_MEMORY_BYTES: Final = 128 * 1024 * 1024
DEFAULT_BATCH_MAX_BYTES: Final = 96 * 1024 * 1024
DEFAULT_BATCH_DELAY_SECONDS: Final = 0.0
DEFAULT_COMMIT_INTERVAL_SECONDS: Final = 0.25
DEFAULT_COMMIT_DELAY_SECONDS: Final = 0.01
DEFAULT_RENEW_FRACTION: Final = 0.5
DEFAULT_RENEWAL_CHECK_SECONDS: Final = 10.0
DEFAULT_RELEASE_DELAY_SECONDS: Final = 60.0
DEFAULT_RELEASE_GRACE_SECONDS: Final = 3_600.0
DEFAULT_SUPERSEDED_RETENTION_SECONDS: Final = 86_400.0
DEFAULT_VAULT_TIMEOUT_SECONDS: Final = 10.0
DEFAULT_VAULT_RETRY_SECONDS: Final = 5.0
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
        DEFAULT_PARTITIONS, description="Partitions of 'artifacts'; fixed when the log is made, and then a power of two."
    )
    max_pending_bytes: Bytes = Field(
        DEFAULT_MAX_PENDING_BYTES, description="How much may wait to be written before requests are answered with 503."
    )


class KafkaConfig(_Section):
    """How Kafka is reached, where bus.url names it."""

    prefix: KafkaName = Field("tufline.", description="Of all topics, groups and transactional ids: one for each repository.")
    replicas: Annotated[int, Field(ge=1, le=9)] = Field(
        3, description="Copies of each topic; a write is acknowledged when all but one have it."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="As Kafka's clients name it."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        "SCRAM-SHA-512", description="How to log in, where security_protocol begins with SASL."
    )
    username: str = Field("", description="For PLAIN and SCRAM.")
    password: SecretStr = Field(SecretStr(""), description="For PLAIN and SCRAM.")
    ca_file: Path | None = Field(None, description="Certificates (PEM) that the brokers' own are checked with; by default the system's.")
    certificate_file: Path | None = Field(None, description="Certificate (PEM) to show to the brokers, where they ask for one.")
    key_file: Path | None = Field(None, description="Private key (PEM) of that certificate.")
    token_file: Path | None = Field(None, description="File with the token for OAUTHBEARER, read anew for each connection.")
    session_timeout: Annotated[float, seconds(1, MAX_SESSION_SECONDS)] = Field(
        DEFAULT_SESSION_SECONDS,
        description="After so many seconds without a heartbeat a process counts as dead, and others take its partitions.",
    )
    instance_id: KafkaName = Field(
        "",
        description="Names this process across restarts (static membership): its partitions wait for it through session_timeout. "
        "Empty: it leaves the group when it stops.",
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
        description="Hash algorithms that targets may have. tuf-js and go-tuf know sha256 and sha512 only: in a repository of the client "
        "profile 'standard' others do not count, and if neither of the two is named, both are accepted. "
        "In the environment: separated by commas.",
    )
    encoded_paths: bool = Field(
        False,
        description="Whether target paths are URL paths as clients send them, which may have percent-encoded characters (a%2Bb.whl); "
        "else a '%' is refused.",
    )
    origin: str = Field("origin", description="A task is done when this origin shows it.")
    inbox_dedup_events: Annotated[int, Field(ge=1)] = Field(
        DEFAULT_INBOX_DEDUP_EVENTS,
        description="So many accepted events of each partition of the inbox are known again when they are sent again: 300 bytes each.",
    )

    def allowed(self, profile: Profile) -> Allowed:
        """Say what targets may have.

        Args:
            profile: of the repository.

        Returns:
            It.
        """
        return Allowed(hash_algorithms(profile, self.hash_algorithms), check_encoded_path if self.encoded_paths else check_new_path)


class SignerConfig(_Section):
    """Bins, snapshot and timestamp."""

    key_dir: Path = Field(Path("tufline-data/keys"), description="Directory of online keys in files ('fn:<file>').")
    hsm_pin: SecretStr = Field(SecretStr(""), description="PIN of the token that holds online keys of the form 'hsm:…'.")
    hsm_pin_file: Path | None = Field(None, description="File with that PIN, in place of hsm_pin.")
    bin_memory_bytes: Bytes = Field(
        DEFAULT_BIN_MEMORY_BYTES, description="Memory for the content of bins; the rest is read back from the log."
    )
    batch_max_bytes: Bytes = Field(
        DEFAULT_BATCH_MAX_BYTES, description="The most changes taken at once, in bytes of memory; bins in memory make room for them."
    )
    batch_delay: Pause = Field(
        DEFAULT_BATCH_DELAY_SECONDS,
        description="How long to wait for more changes before a batch, in seconds; under backlog it waits longer by itself.",
    )
    commit_interval: Pause = Field(
        DEFAULT_COMMIT_INTERVAL_SECONDS, description="At most one snapshot in this time, in seconds; each costs every client a snapshot."
    )
    commit_delay: Pause = Field(
        DEFAULT_COMMIT_DELAY_SECONDS, description="How long a commit waits for the other partitions of the same requests, in seconds."
    )
    renew_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        DEFAULT_RENEW_FRACTION,
        description="A role is renewed when less than this part of its lifetime is left; bins spread over the time before.",
    )
    renewal_check: Interval = Field(DEFAULT_RENEWAL_CHECK_SECONDS, description="How often to look for roles to renew, in seconds.")
    release_delay: Keeping = Field(
        DEFAULT_RELEASE_DELAY_SECONDS,
        description="When an online key changes: how long timestamp and snapshot are signed with both keys before the new root is shown, "
        "in seconds; longer than any cache keeps timestamp.json.",
    )
    release_grace: Keeping = Field(
        DEFAULT_RELEASE_GRACE_SECONDS,
        description="When an online key has changed: how long the old one goes on signing beside it, in seconds; longer than any cache "
        "says that there is no newer root.",
    )
    audit_file: Path | None = Field(
        None,
        description="File for a copy of the audit, one of its own for each process, or '-' for standard output. The topic 'audit' has it "
        "always.",
    )


class VaultConfig(_Section):
    """How HashiCorp Vault or OpenBao is reached, where online keys are in it ('vault:<mount>/<key>#<version>')."""

    address: str = Field("https://127.0.0.1:8200", description="URL of the server; https, except on this machine.")
    namespace: str = Field("", description="Namespace of login and keys, where the server has some.")
    auth: Literal["token", "approle", "kubernetes"] = Field("approle", description="How to log in.")
    auth_mount: str = Field("", description="Path of the login method, where it is not the method's own name.")
    token: SecretStr = Field(SecretStr(""), description="For auth = token.")
    token_file: Path | None = Field(None, description="File with the token, in place of token; read anew at each login.")
    role: str = Field("", description="Role of the signer: the RoleID of approle, or the name of kubernetes' role.")
    secret_id: SecretStr = Field(SecretStr(""), description="For auth = approle.")
    secret_id_file: Path | None = Field(None, description="File with the SecretID, in place of secret_id; read anew at each login.")
    jwt_file: Path = Field(KUBERNETES_TOKEN_FILE, description="File with the service account's token, for auth = kubernetes.")
    ca_file: Path | None = Field(None, description="Certificates (PEM) that the server's own is checked with; by default the usual ones.")
    timeout: Interval = Field(DEFAULT_VAULT_TIMEOUT_SECONDS, description="How long to wait for each answer, in seconds.")
    retry: Pause = Field(
        DEFAULT_VAULT_RETRY_SECONDS,
        description="How long to try again what may pass, in seconds; then the work begins anew, and says why.",
    )
    connections: Annotated[int, Field(ge=1, le=64)] = Field(DEFAULT_VAULT_CONNECTIONS, description="Calls at the same time.")

    @field_validator("address")
    @classmethod
    def _never_in_plain_text(cls, address: str) -> str:
        url = urlsplit(address)
        if url.scheme not in {"http", "https"} or not url.hostname or url.username is not None:
            raise ValueError("write https://<host>:<port>")
        if url.scheme == "http" and not _is_this_machine(url.hostname):
            raise ValueError("a token would go over the network in plain text: use https")
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
    superseded_retention: Annotated[float, seconds(TIMESTAMP_MAX_AGE_SECONDS, YEAR_SECONDS)] = Field(
        DEFAULT_SUPERSEDED_RETENTION_SECONDS,
        description="How long a file stays after the last published snapshot that named it, in seconds; longer than caches keep "
        "timestamp.json, and than a client takes to refresh.",
    )


class HttpConfig(_Section):
    """Limits of every built-in HTTP server: of the REST API, of the origin, and for operators."""

    max_connections: Annotated[int, Field(ge=8, le=100_000)] = Field(
        DEFAULT_MAX_CONNECTIONS,
        description="Connections of each server; an idle one makes room for a new one. A low limit of open files lowers it.",
    )
    idle_timeout: Annotated[float, seconds(1, HOUR_SECONDS)] = Field(
        DEFAULT_IDLE_SECONDS,
        description="How long a client may keep its connection waiting, in seconds: without a whole head of a request, while a body comes "
        "with less than 1 kB in this time, or while it does not read the answer.",
    )


DEFAULT_HTTP: Final = HttpConfig()


class WebConfig(_Section):
    """The built-in HTTP server of the origin."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8081, description="Port to listen on; 0 for any free one.")
    targets: Path | None = Field(None, description="Directory of the repository's own files, served at /targets/ beside /metadata/.")


class OpsConfig(_Section):
    """The HTTP server for operators (/healthz, /readyz, /metrics) of a signer or publisher in a process of its own; ingest has its own."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8082, description="Port to listen on; 0 for any free one.")


class ClockConfig(_Section):
    """The clock of the machine, which is held against the log's."""

    tolerance: Interval = Field(
        DEFAULT_TOLERANCE_SECONDS, description="A difference of more seconds is reported as a problem of the process."
    )


class LogConfig(_Section):
    """What the process says."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is said.")
    format: Literal["auto", "json", "console"] = Field("auto", description="'auto': for humans on a terminal, else JSON.")


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


def _env_name(section: str, name: str) -> str:
    return f"{ENV_PREFIX}{section}{ENV_DELIMITER}{name}".upper()


def _all_settings() -> list[tuple[str, str]]:
    sections = {name: info.annotation for name, info in Config.model_fields.items()}
    return [
        (section, name)
        for section, kind in sections.items()
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for name in kind.model_fields
    ]


def _check_environment() -> None:
    known = {_env_name(section, name) for section, name in _all_settings()}
    for name in os.environ:
        if name.startswith(ENV_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            advice = f"did you mean {near[0]}?" if near else "tufline config lists all settings"
            raise ConfigError(f"the environment variable {name} is no setting: {advice}")


def _read_toml(path: Path | None) -> dict[str, dict[str, Any]]:
    if path is None and not DEFAULT_FILE.exists():
        return {}
    try:
        content = tomllib.loads((path or DEFAULT_FILE).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration {path or DEFAULT_FILE} can't be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the configuration {path or DEFAULT_FILE} is not TOML: {error}") from error
    for section, settings in content.items():
        if not isinstance(settings, dict):
            raise ConfigError(f"{section} in {path or DEFAULT_FILE} stands outside any section such as [ingest]")
    return content


def load(path: Path | None = None, overrides: Mapping[str, Any] = MappingProxyType({})) -> tuple[Config, dict[str, str]]:
    """Load the configuration.

    Args:
        path: of a TOML file; None for ``tufline.toml`` in the current directory, if there is one.
        overrides: dotted setting to value, from the command line; None for those that were not given.

    Returns:
        The configuration; and for each dotted setting where its value came from.

    Raises:
        ConfigError: for a file that can't be read, a setting that does not exist or a value that it can't have.
    """
    _check_environment()
    given: dict[str, dict[str, Any]] = {}
    for dotted, value in overrides.items():
        if value is not None:
            section, _, name = dotted.partition(".")
            given.setdefault(section, {})[name] = value
    return _merge((str(path or DEFAULT_FILE), _read_toml(path)), ("environment", EnvSettingsSource(Config)()), ("command line", given))


def of_environment() -> Config:
    """Load what the environment says, and no file: for a library in somebody else's process.

    Returns:
        The configuration.

    Raises:
        ConfigError: for a value that a setting can't have.
    """
    config, _ = _merge(("environment", EnvSettingsSource(Config)()))
    return config


def _merge(*layers: tuple[str, dict[str, dict[str, Any]]]) -> tuple[Config, dict[str, str]]:
    merged: dict[str, dict[str, Any]] = {}
    sources = {f"{section}.{name}": "default" for section, name in _all_settings()}
    for source, layer in layers:
        for section, settings in layer.items():
            merged.setdefault(section, {}).update(settings)
            for name in settings:
                sources[f"{section}.{name}"] = _env_name(section, name) if source == "environment" else source
    try:
        return Config(**merged), sources  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(problem, sources) for problem in error.errors())) from None


def _explain(problem: ErrorDetails, sources: Mapping[str, str]) -> str:
    dotted = ".".join(str(step) for step in problem["loc"][:2])
    source = sources.get(dotted, "the configuration")
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(dotted, [f"{section}.{name}" for section, name in _all_settings()], 1)
        advice = f"did you mean {near[0]}?" if near else "tufline config lists all settings"
        return f"{dotted} (from {source}) is no setting: {advice}"
    # What was written for a secret may be one, also where it has a wrong type.
    shown = "" if _is_secret(dotted) else f" = {problem['input']!r}"
    return f"{dotted}{shown} (from {source}) can't be: {problem['msg'].removeprefix(OF_A_CHECK)}"


def _is_secret(dotted: str) -> bool:
    section, _, name = dotted.partition(".")
    kind = Config.model_fields[section].annotation if section in Config.model_fields else None
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return False
    return name in kind.model_fields and kind.model_fields[name].annotation is SecretStr

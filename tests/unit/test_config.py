"""The configuration: the source of each value, and the messages for invalid ones."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from tufline.config.loading import load
from tufline.config.settings import TIMESTAMP_MAX_AGE_SECONDS, Config
from tufline.errors import ConfigError
from tufline_cli import main
from tufline_testing.checkout import ROOT


def test_each_layer_goes_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line overrides the environment, which overrides the file, which overrides the default; each is named as the source."""
    file = tmp_path / "t.toml"
    file.write_text("[ingest]\nport = 1\nhost = 'file'\norigin = 'file'\n")
    monkeypatch.setenv("TUFLINE_INGEST__PORT", "2")
    monkeypatch.setenv("TUFLINE_INGEST__HOST", "env")
    config, sources = load(file, {"ingest.port": 3, "web.port": None})
    assert (config.ingest.port, config.ingest.host, config.ingest.origin, config.web.port) == (3, "env", "file", 8081)
    assert [sources[f"ingest.{name}"] for name in ("port", "host", "origin", "bulk_line_bytes")] == [
        "command line",
        "TUFLINE_INGEST__HOST",
        str(file),
        "default",
    ]
    assert sources["web.port"] == "default"


WRONG = {
    "unknown setting": ("[signer]\nkeydir = 'x'\n", r"signer\.keydir .* did you mean signer\.key_dir"),
    "unknown section": ("[sginer]\nx = 1\n", "sginer"),
    "outside a section": ("port = 1\n", "outside any section"),
    "wrong type": ("[ingest]\nport = 'many'\n", r"ingest\.port = 'many' .* is not valid"),
    "out of range": ("[signer]\nrenew_fraction = 2.0\n", r"signer\.renew_fraction = 2\.0"),
    "negative": ("[signer]\nbin_memory_bytes = -1\n", r"signer\.bin_memory_bytes = -1"),
    "unknown hash": ("[ingest]\nhash_algorithms = ['md5']\n", r"ingest\.hash_algorithms"),
    "no hash": ("[ingest]\nhash_algorithms = []\n", r"ingest\.hash_algorithms"),
    "not TOML": ("[ingest", "is not valid TOML"),
    "no broker's port": ("[bus]\nurl = 'kafka:a:9092,b:99999999'\n", r"bus\.url .* is not valid: 'b:99999999' .* ports from 1 to 65535"),
    "port 0": ("[bus]\nurl = 'kafka:a:0'\n", "'a:0' .* is not a valid broker address"),
    "no port": ("[bus]\nurl = 'kafka:a'\n", "'a' .* is not a valid broker address"),
    "no host": ("[bus]\nurl = 'kafka::9092'\n", "':9092' .* is not a valid broker address"),
    "a comma too many": ("[bus]\nurl = 'kafka:a:9092,'\n", "'' .* is not a valid broker address"),
    "a host with slashes": ("[bus]\nurl = 'kafka://a:9092'\n", "'//a:9092' .* is not a valid broker address"),
    "a host with a name that is too long": (f"[bus]\nurl = 'kafka:{'a' * 64}:9092'\n", "is not a valid broker address"),
    "no bus": ("[bus]\nurl = 'postgres:x'\n", "'postgres:x' is not a valid bus URL: write 'embedded:<file>'"),
    "a bus URL without a file": ("[bus]\nurl = 'embedded:'\n", "is not a valid bus URL"),
    "no prefix of Kafka's": ("[kafka]\nprefix = 'bad prefix/ü'\n", r"kafka\.prefix = 'bad prefix/ü' .* write at most 200 of"),
    "a prefix that is too long": (f"[kafka]\nprefix = '{'a' * 201}'\n", r"kafka\.prefix .* at most 200"),
    "no name of Kafka's": ("[kafka]\ninstance_id = 'a b'\n", r"kafka\.instance_id .* write at most 200"),
    "plain HTTP to another machine": ("[vault]\naddress = 'http://vault.example.org:8200'\n", "in plain text: use https"),
    "no address": ("[vault]\naddress = 'vault:8200'\n", "write https://<host>:<port>"),
}


@pytest.mark.parametrize(("content", "says"), WRONG.values(), ids=WRONG)
def test_a_wrong_configuration_is_reported(tmp_path: Path, content: str, says: str) -> None:
    """An unknown setting, or one with an invalid value, is reported with its source."""
    (tmp_path / "t.toml").write_text(content)
    with pytest.raises(ConfigError, match=says):
        load(tmp_path / "t.toml")


@pytest.mark.parametrize("brokers", ["a:1", "a.b-c:9092, d_e.:65535", "[::1]:9092,10.0.0.1:9092"])
def test_brokers_are_taken_as_kafka_writes_them(brokers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and addresses of any number of brokers, each with its port."""
    monkeypatch.setenv("TUFLINE_BUS__URL", f"kafka:{brokers}")
    assert load()[0].bus.url == f"kafka:{brokers}"


def test_lists_in_the_environment_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list is written naturally in the environment; an invalid one is reported like any other setting."""
    monkeypatch.setenv("TUFLINE_INGEST__HASH_ALGORITHMS", "sha256, sha512")
    assert load()[0].ingest.hash_algorithms == ("sha256", "sha512")
    monkeypatch.setenv("TUFLINE_INGEST__HASH_ALGORITHMS", "md5")
    with pytest.raises(ConfigError, match=r"hash_algorithms = 'md5' \(from TUFLINE_INGEST__HASH_ALGORITHMS\) is not valid: .*'sha256'"):
        load()


SECONDS = [
    f"{section}.{name}"
    for section, info in Config.model_fields.items()
    if isinstance(kind := info.annotation, type) and issubclass(kind, BaseModel)
    for name, field in kind.model_fields.items()
    if field.annotation is float and name != "renew_fraction"
]


@pytest.mark.parametrize("value", ["inf", "nan", "-inf", "1e12", "-1"])
@pytest.mark.parametrize("dotted", SECONDS)
def test_an_infinite_time_is_refused(dotted: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No time may be infinite, NaN, negative or unreasonably long; the message names the valid range."""
    monkeypatch.setenv(f"TUFLINE_{dotted.replace('.', '__').upper()}", value)
    with pytest.raises(ConfigError, match=rf"{dotted} = '{value}' .* is not valid: write a number of seconds from \S+ to \d+"):
        load()


def test_superseded_files_stay_longer_than_caches_keep_the_timestamp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with a cached timestamp must still find the files it names: a shorter retention, such as 0, is refused."""
    for value in ("0", "4.9"):
        monkeypatch.setenv("TUFLINE_PUBLISHER__SUPERSEDED_RETENTION", value)
        with pytest.raises(ConfigError, match=r"superseded_retention .* write a number of seconds from 5 to"):
            load()
    monkeypatch.setenv("TUFLINE_PUBLISHER__SUPERSEDED_RETENTION", "5")
    assert load()[0].publisher.superseded_retention == TIMESTAMP_MAX_AGE_SECONDS


def test_an_invalid_fraction_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings other than times have their own ranges, which do not include NaN either."""
    monkeypatch.setenv("TUFLINE_SIGNER__RENEW_FRACTION", "nan")
    with pytest.raises(ConfigError, match="renew_fraction"):
        load()


def test_a_secret_of_a_wrong_type_is_not_shown(tmp_path: Path) -> None:
    """The value of an invalid secret is not repeated in the message."""
    (tmp_path / "t.toml").write_text("[vault]\ntoken = 8472836452\n")
    with pytest.raises(ConfigError, match=r"vault\.token .* is not valid") as raised:
        load(tmp_path / "t.toml")
    assert "8472836452" not in str(raised.value)


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """``tufline config`` shows that a secret is set and its source, but never the secret itself, in either format."""
    secrets = {"VAULT__TOKEN": "s1", "VAULT__SECRET_ID": "s2", "SIGNER__HSM_PIN": "s3", "KAFKA__PASSWORD": "s4"}
    for name, mark in secrets.items():
        monkeypatch.setenv(f"TUFLINE_{name}", f"secret-{mark}")
    for arguments in (["config"], ["config", "--json"]):
        done = CliRunner().invoke(main, arguments, env={"COLUMNS": "400"})
        assert done.exit_code == 0
        assert "secret-s" not in done.output
        assert all(f"TUFLINE_{name}" in done.output for name in secrets)


def test_settings_are_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal, each setting is one line with its whole value and meaning, even if it looks like markup."""
    url = f"embedded:/{'a' * 300}/[bold]log.db"
    monkeypatch.setenv("TUFLINE_BUS__URL", url)
    (line,) = (line for line in CliRunner().invoke(main, ["config"]).output.splitlines() if line.strip().startswith("bus.url"))
    assert url in line
    assert "TUFLINE_BUS__URL" in line
    assert "(see [kafka])" in line


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    """A requested configuration file that does not exist is an error."""
    with pytest.raises(ConfigError, match="can't be read"):
        load(tmp_path / "missing.toml")


def test_deployed_configuration_is_valid() -> None:
    """The configuration that is shipped for systemd has only settings that exist."""
    config, sources = load(ROOT / "deploy" / "systemd" / "tufline.toml")
    assert config.log.format == "json"
    assert sources["bus.url"].endswith("tufline.toml")

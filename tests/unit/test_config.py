"""The configuration: where each value comes from, and what is said of a wrong one."""

from pathlib import Path

import pytest

from tufline.config import load
from tufline.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def test_each_layer_goes_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line goes before the environment, that before the file, that before the default; and each is named as the source."""
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
    "wrong type": ("[ingest]\nport = 'many'\n", r"ingest\.port = 'many' .* can't be"),
    "out of range": ("[signer]\nrenew_fraction = 2.0\n", r"signer\.renew_fraction = 2\.0"),
    "negative": ("[signer]\nbin_memory_bytes = -1\n", r"signer\.bin_memory_bytes = -1"),
    "unknown hash": ("[ingest]\nhash_algorithms = ['md5']\n", r"ingest\.hash_algorithms"),
    "no hash": ("[ingest]\nhash_algorithms = []\n", r"ingest\.hash_algorithms"),
    "not TOML": ("[ingest", "is not TOML"),
}


@pytest.mark.parametrize(("content", "says"), WRONG.values(), ids=WRONG)
def test_wrong_configuration_is_said(tmp_path: Path, content: str, says: str) -> None:
    """A setting that does not exist or can't have its value is named with its source."""
    (tmp_path / "t.toml").write_text(content)
    with pytest.raises(ConfigError, match=says):
        load(tmp_path / "t.toml")


def test_missing_file_is_said(tmp_path: Path) -> None:
    """A configuration that was asked for and is not there is an error."""
    with pytest.raises(ConfigError, match="can't be read"):
        load(tmp_path / "missing.toml")


def test_deployed_configuration_is_valid() -> None:
    """The configuration that is shipped for systemd has only settings that exist."""
    config, sources = load(ROOT / "deploy" / "systemd" / "tufline.toml")
    assert config.log.format == "json"
    assert sources["bus.url"].endswith("tufline.toml")

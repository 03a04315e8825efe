"""The files for containers match the software. No container runs here."""

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from tufline.config.loading import load
from tufline.config.settings import DEFAULT_HTTP, ENV_PREFIX
from tufline.runtime import descriptors
from tufline_cli import main
from tufline_testing.checkout import ROOT

COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "tufline"}


def instructions() -> list[list[str]]:
    """Read the Dockerfile: one list of words for each instruction."""
    joined = DOCKERFILE.read_text().replace("\\\n", " ")
    return [line.split() for line in joined.splitlines() if line and not line.startswith("#")]


def test_the_compose_file_is_one() -> None:
    """The compose file is valid by the Compose specification, in which a misspelled key is an error."""
    content = yaml.safe_load(COMPOSE.read_text())
    compose_spec.PyCompose.from_json(json.dumps(content)).validate()
    content["services"]["kafka"]["restrat"] = "no"
    with pytest.raises(ValueError, match="restrat"):
        compose_spec.PyCompose.from_json(json.dumps(content)).validate()


@pytest.mark.parametrize("name", sorted(OURS))
def test_settings_are_real(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A container's configuration uses existing settings with valid values, and its command line is right."""
    environment = OURS[name]["environment"]
    monkeypatch.chdir(tmp_path)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    settings, sources = load()
    named = {source for source in sources.values() if source.startswith(ENV_PREFIX)}
    assert named == environment.keys()
    assert settings.bus.url == "kafka:kafka:9092"
    command = OURS[name]["command"]
    with main.make_context("tufline", list(command)) as context:
        found = main.get_command(context, command[0])
        assert found is not None
        found.make_context(command[0], command[1:], parent=context)  # an unknown argument or option is an error
    if command[0] == "run":
        assert command[1] == name


def test_addresses_in_the_deployment_are_those_of_the_processes() -> None:
    """Health checks, published ports, and the address for the bootstrap are those where the processes listen."""
    for name in ("ingest", "signer", "publisher"):
        section = "INGEST" if name == "ingest" else "OPS"
        port = OURS[name]["environment"][f"TUFLINE_{section}__PORT"]
        assert f"http://127.0.0.1:{port}/healthz" in OURS[name]["healthcheck"]["test"][-1]
    for name, sections in {"ingest": {"INGEST"}, "publisher": {"WEB"}}.items():
        ports = {port.rpartition(":")[2] for port in OURS[name]["ports"]}
        assert ports == {OURS[name]["environment"][f"TUFLINE_{section}__PORT"] for section in sections}
        assert {OURS[name]["environment"][f"TUFLINE_{section}__HOST"] for section in sections} == {"0.0.0.0"}
        assert all(port.startswith("127.0.0.1:") for port in OURS[name]["ports"])
    assert OURS["begin"]["command"][-1] == f"http://ingest:{OURS['ingest']['environment']['TUFLINE_INGEST__PORT']}"
    assert OURS["signer"]["environment"]["TUFLINE_SIGNER__KEY_DIR"] == f"{OURS['begin']['command'][2]}/online"


def test_kafka_is_the_one_that_is_tested() -> None:
    """The broker's image has the version that the tests run."""
    pom = ET.fromstring((ROOT / "deploy" / "kafka" / "pom.xml").read_text())
    names = {"m": "http://maven.apache.org/POM/4.0.0"}
    versions = {
        one.findtext("m:artifactId", "", names): one.findtext("m:version", "", names) for one in pom.iterfind(".//m:dependency", names)
    }
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{versions['kafka_2.13']}"


def test_the_image_is_pinned_and_has_no_root() -> None:
    """Images have a version, packages have hashes, and the process does not run as root."""
    every = instructions()
    for words in every:
        if words[0] == "FROM":
            assert re.fullmatch(r"python:3\.\d+-slim-\w+", words[1]), words
        if words[0] == "RUN":
            installs = [part for part in " ".join(words).split("&&") if "pip install" in part]
            assert all("--require-hashes" in part or "--no-index --no-deps" in part for part in installs), installs
    assert next(words[1] for words in reversed(every) if words[0] == "USER") == "10001:10001"
    assert OURS["signer"]["build"]["dockerfile"] == str(DOCKERFILE.relative_to(ROOT))


def test_the_copied_files_are_enough_to_build_a_wheel(tmp_path: Path) -> None:
    """A wheel with all services can be built from the files that the Dockerfile copies and .dockerignore allows."""
    source = tmp_path / "source"
    source.mkdir()
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().split()
    for words in instructions():
        if words[0] == "COPY" and not words[1].startswith("--from"):
            for name in words[1:-1]:
                let_through = {f"!{name}", f"!{name}/**", f"!{Path(name).parent}/*{Path(name).suffix}"}
                assert let_through & set(ignored), name
                target = source / name if words[-1] != "./" else source / Path(name).name
                target.parent.mkdir(exist_ok=True)
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))  # other tests write there
                else:
                    shutil.copy(ROOT / name, target)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "wheel")]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    say = "import tufline, tufline_cli.process, tufline_ingest, tufline_publisher, tufline_signer as one; "
    say += "print(tufline.__file__, one.__file__)"
    env = {"PYTHONPATH": str(tmp_path / "installed"), "PATH": ""}
    said = subprocess.run([sys.executable, "-c", say], env=env, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert said.count(str(tmp_path / "installed")) == 2


def test_the_unit_allows_enough_open_files() -> None:
    """Under systemd a process has descriptors for all connections of the default configuration, and for its own work."""
    unit = (ROOT / "deploy" / "systemd" / "tufline.service").read_text()
    (allowed,) = re.findall(r"^LimitNOFILE=(\d+)$", unit, re.MULTILINE)
    needed = DEFAULT_HTTP.max_connections * descriptors.SERVERS * descriptors.FOR_A_CONNECTION + descriptors.RESERVED
    assert int(allowed) >= needed

"""The services in separate processes, with Apache Kafka and the online key in a real OpenBao, as ``make stack`` runs them."""

import asyncio
import base64
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_public_key

from tufline.bus.kafka.bus import open_kafka
from tufline.bus.kafka.client import KafkaConnection
from tufline.records import topics
from tufline_testing.server import Running, artifact, lengths, wait_until
from tufline_testing.servers.kafka_cluster import Cluster
from tufline_testing.servers.openbao import bao
from tufline_testing.servers.stack import VAULT_KEY, Stack
from tufline_testing.servers.vault_server import MOUNT, VaultServer

pytestmark = pytest.mark.slow

BINS = 8
PARTITIONS = 2


@pytest.fixture
def stack(kafka: Cluster, own_vault: VaultServer, tmp_path: Path) -> Iterator[Stack]:
    """Prepare services with their own prefix; the test starts them."""
    settings = {"TUFLINE_KAFKA__PREFIX": f"v{time.time_ns()}.", "TUFLINE_BUS__PARTITIONS": str(PARTITIONS), "TUFLINE_LOG__LEVEL": "debug"}
    with Stack(tmp_path / "stack", kafka, BINS, settings, own_vault) as made:
        yield made


def add(stack: Stack, numbers: dict[str, int]) -> str:
    """Announce artifacts, and return the task."""
    body = {"artifacts": [artifact(path, number) for path, number in numbers.items()]}
    return str(stack.api.request("POST", "/api/v1/artifacts/", body, patient=True)["data"]["task_id"])


def test_the_way_of_an_artifact_through_kafka_and_vault(stack: Stack, own_vault: VaultServer, tmp_path: Path) -> None:
    """Announced artifacts are signed in Vault and seen by an unmodified TUF client; killing Vault in between only delays them."""
    stack.prepare()
    stack.begin()
    tasks = [add(stack, {f"p/{number}": number for number in range(50)})]
    stack.api.wait_for_task(tasks[0], time.monotonic() + 60)
    own_vault.kill()
    tasks.append(add(stack, {"p/7": 1007}))
    signer = next(service for service in stack.services if service.name == "signer")
    wait_until(lambda: "can't be reached" in signer.problems().get(f"signer.key.{VAULT_KEY}", ""), "the signer does not say what it lacks")
    own_vault.start()
    stack.api.wait_for_task(tasks[1], time.monotonic() + 60)
    ingest = next(service for service in stack.services if service.name == "ingest")
    running = Running(ingest.process, ingest.url, stack.metadata, "", stack.keys / "root.json", ingest.log)
    assert lengths(running, tmp_path / "client", ["p/0", "p/7", "p/49", "p/50"]) == {"p/0": 0, "p/7": 1007, "p/49": 49}
    wait_until(lambda: not any(service.problems() for service in stack.services), "not all parts are ready")
    assert [service.stop() for service in reversed(stack.services)] == [0, 0, 0]


def test_the_file_with_the_root_token_is_kept_private(own_vault: VaultServer) -> None:
    """Only its owner may read the file with the root token and the unseal key; a shell that sources it can unseal and administer."""
    assert own_vault.admin_env.stat().st_mode & 0o777 == 0o600
    own_vault.seal()
    script = f'. {own_vault.admin_env}; "{bao()}" operator unseal "$BAO_UNSEAL_KEY" && "{bao()}" secrets list && env'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert f"{MOUNT}/" in done.stdout
    assert f"TUFLINE_VAULT__TOKEN={own_vault.root_token}" in done.stdout


def forms(private: EllipticCurvePrivateKey) -> dict[str, bytes]:
    """Write a private key in every form in which it might be stored."""
    scalar = private.private_numbers().private_value.to_bytes(32, "big")
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    sec1 = private.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    found = {"scalar": scalar, "scalar in decimal": str(private.private_numbers().private_value).encode()}
    found["scalar in hexadecimal"] = scalar.hex().encode()
    # In base64 of a larger text, the scalar is shifted by 0, 1 or 2 bytes; except for its ends, its encoding is the same in every text.
    for shift in range(3):
        found[f"scalar in base64, shifted by {shift}"] = base64.b64encode(bytes(shift) + scalar)[4:40]
    # A PEM file is broken into lines; this is the line with most of the scalar.
    for name, content in (("PKCS#8", der), ("SEC1", sec1)):
        lines = [base64.b64encode(content).decode()[start : start + 64] for start in range(0, 4 * len(content) // 3, 64)]
        found[f"{name} PEM"] = lines[0].encode()
    return found


def import_key(vault: VaultServer, private: EllipticCurvePrivateKey) -> None:
    """Import a known private key into Transit, wrapped by a key of Vault, as its import requires."""
    wrapping = load_pem_public_key(vault.admin.read(f"{MOUNT}/wrapping_key")["data"]["public_key"].encode())
    ephemeral = os.urandom(32)
    wrapped_key = wrapping.encrypt(ephemeral, padding.OAEP(padding.MGF1(SHA256()), SHA256(), None))  # type: ignore[union-attr]
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    ciphertext = base64.b64encode(wrapped_key + aes_key_wrap_with_padding(ephemeral, der)).decode()
    name = VAULT_KEY.partition("#")[0].rpartition("/")[2]
    data = {"ciphertext": ciphertext, "hash_function": "SHA256", "type": "ecdsa-p256", "exportable": False}
    vault.admin.write_data(f"{MOUNT}/keys/{name}/import", data=data)


async def everything_on(stack: Stack) -> dict[str, bytes]:
    """Read every record of every topic."""
    connection = KafkaConnection(stack.cluster.bootstrap, stack.settings["TUFLINE_KAFKA__PREFIX"], {})
    bus = await open_kafka(connection, topics.topics(PARTITIONS), max_pending_bytes=1000)
    found: dict[str, bytes] = {}
    try:
        for topic in topics.topics(PARTITIONS):
            for partition in range(bus.partitions(topic)):
                reader = bus.reader(topic, partition, 0)
                while records := await reader.fetch(max_wait=1.0):
                    found[f"{topic} {partition}"] = b"\n".join(
                        [found.get(f"{topic} {partition}", b""), *(str(one).encode() + one.value for one in records)]
                    )
                await reader.close()
    finally:
        await bus.close()
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="NO /proc, so nothing is shown about what is in memory")
def test_the_private_key_is_nowhere_else(stack: Stack, own_vault: VaultServer, tmp_path: Path) -> None:
    """A known private key in Vault is not found in any environment, memory, file, log, origin or topic of the services."""
    private = generate_private_key(SECP256R1())
    import_key(own_vault, private)
    stack.prepare(create=False)
    stack.begin()
    stack.api.wait_for_task(add(stack, {f"p/{number}": number for number in range(50)}), time.monotonic() + 60)
    places = {f"environment of {one.name}": Path(f"/proc/{one.process.pid}/environ").read_bytes() for one in stack.services}
    places |= {f"arguments of {one.name}": Path(f"/proc/{one.process.pid}/cmdline").read_bytes() for one in stack.services}
    places |= {f"memory of {one.name}": memory_of(one.process.pid) for one in stack.services}
    places |= {str(file): file.read_bytes() for file in (tmp_path / "stack").rglob("*") if file.is_file()}
    places |= {str(file): file.read_bytes() for file in (own_vault.log, own_vault.audit_log)}
    places |= asyncio.run(everything_on(stack))
    assert len(places) > 30
    looked_for = forms(private)
    for place, content in places.items():
        for form, secret in looked_for.items():
            assert secret not in content, f"the private key stands in {place} as {form}"


def memory_of(pid: int) -> bytes:
    """Read the writable memory of a process."""
    parts = []
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found and "[v" not in line:
                start, end = (int(edge, 16) for edge in found.groups())
                memory.seek(start)
                try:
                    parts.append(memory.read(end - start))
                except OSError:
                    continue
    return b"".join(parts)


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """The search finds a private key in a PEM file, DER, hexadecimal, base64 and decimal, at any place in them."""
    private = generate_private_key(SECP256R1())
    scalar = private.private_numbers().private_value
    raw = scalar.to_bytes(32, "big")
    pems = [private.private_bytes(Encoding.PEM, kind, NoEncryption()) for kind in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)]
    ders = [private.private_bytes(Encoding.DER, kind, NoEncryption()) for kind in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)]
    hidden = [*pems, *ders, raw.hex().encode(), str(scalar).encode(), *(base64.b64encode(os.urandom(n) + raw + b"end") for n in range(6))]
    for content in hidden:
        assert any(secret in b"before" + content + b"after" for secret in forms(private).values()), content

"""Keys and bootstrap payloads, as an operator makes them with python-tuf."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Delegations, Metadata, Root, SuccinctRoles, Targets

from tufline.trust import ONLINE_KEY_URI

DEFAULT_EXPIRATIONS = {"root": 365, "targets": 365, "snapshot": 7, "timestamp": 1, "bins": 7}


@dataclass
class Payload:
    """A bootstrap payload and the keys behind it."""

    json: dict[str, Any]
    root_signers: list[CryptoSigner]
    targets_signers: list[CryptoSigner]
    online_signer: CryptoSigner


def make_signer(scheme: str = "ecdsa") -> CryptoSigner:
    """Make a key pair."""
    return CryptoSigner.generate_ed25519() if scheme == "ed25519" else CryptoSigner.generate_ecdsa()


def write_private_key(signer: CryptoSigner, path: Path) -> None:
    """Write a private key as unencrypted PKCS#8 PEM."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(signer._private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)


def make_bootstrap(
    key_dir: Path,
    *,
    bins: int = 16,
    mode: str = "rstuf",
    scheme: str = "ecdsa",
    expirations: dict[str, int] | None = None,
    root_threshold: int = 2,
    root_keys: int = 3,
) -> Payload:
    """Make keys and a payload signed by a threshold of them; the online key goes to ``key_dir/online.pem``."""
    days = DEFAULT_EXPIRATIONS | (expirations or {})
    now = datetime.now(UTC).replace(microsecond=0)
    root_signers = [make_signer() for _ in range(root_keys)]
    targets_signers = [make_signer() for _ in range(root_keys)]
    online = make_signer(scheme)
    write_private_key(online, key_dir / "online.pem")
    online.public_key.unrecognized_fields[ONLINE_KEY_URI] = "fn:online.pem"
    root = Root(expires=now + timedelta(days=days["root"]), consistent_snapshot=True)
    for signer in root_signers:
        root.add_key(signer.public_key, "root")
    root.roles["root"].threshold = root_threshold
    root.add_key(online.public_key, "timestamp")
    root.add_key(online.public_key, "snapshot")
    metadata: dict[str, Any] = {}
    if mode == "rstuf":
        root.add_key(online.public_key, "targets")
    else:
        for signer in targets_signers:
            root.add_key(signer.public_key, "targets")
        root.roles["targets"].threshold = root_threshold
        succinct = SuccinctRoles([online.public_key.keyid], 1, bins.bit_length() - 1, "bins")
        delegations = Delegations({online.public_key.keyid: online.public_key}, succinct_roles=succinct)
        targets = Metadata(Targets(expires=now + timedelta(days=days["targets"]), delegations=delegations))
        for signer in targets_signers[:root_threshold]:
            targets.sign(signer, append=True)
        metadata["targets"] = targets.to_dict()
    signed_root = Metadata(root)
    for signer in root_signers[:root_threshold]:
        signed_root.sign(signer, append=True)
    metadata["root"] = signed_root.to_dict()
    roles: dict[str, Any] = {role: {"expiration": days[role]} for role in ("root", "targets", "snapshot", "timestamp", "bins")}
    roles["bins"]["number_of_delegated_bins"] = bins
    body = {"settings": {"roles": roles}, "metadata": metadata, "timeout": 300}
    return Payload(body, root_signers, targets_signers, online)

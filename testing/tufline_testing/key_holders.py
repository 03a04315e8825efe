"""People who hold keys, each on a machine of their own: they hand over public keys, proofs and signatures for a ceremony."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import Metadata

from tufline.metadata import canonical
from tufline.metadata.envelope import SignatureEntry
from tufline.trust import ceremony_answers, key_files, shared_ceremony
from tufline.trust.ceremony import NewKey, make_key
from tufline.trust.shared_ceremony import Place

NOW: Final = datetime.now(UTC)


def prove(made: NewKey) -> str:
    """Make a proof as ``tufline keys prove`` does."""
    statement = key_files.statement(made.signer.public_key, NOW)
    signature = made.signer.sign(canonical.encode(statement))
    return key_files.proof(statement, SignatureEntry(signature.keyid, signature.signature))


class People:
    """The people of a ceremony with a key each, and the signer's side with the online keys.

    Args:
        directory: the ceremony's directory.
        answers: what was decided, as in its YAML file.
    """

    def __init__(self, directory: Path, answers: dict[str, Any]) -> None:
        self.place = Place(directory, ceremony_answers.read(answers))
        self.held = {name: make_key("ed25519") for name in self.place.answers.holders}
        self.online = {path: make_key("ecdsa", f"fn:{path.stem}.pem") for path in self.place.online.values()}

    def hand_over(self) -> None:
        """Put public keys and proofs into the ceremony's directory."""
        for name, path in self.place.keys.items():
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(key_files.to_json([self.held[name].signer.public_key]))
        for path, made in self.online.items():
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(prove(made))

    def sign(self, name: str, *roles: str) -> None:
        """Sign as ``tufline sign --signatures`` does, and hand over the signatures."""
        signed = {}
        for role in roles:
            metadata: Metadata[Any] = Metadata.from_file(str(self.place.to_sign[role]))
            signed[role] = [self.held[name].signer.sign(metadata.signed_bytes).to_dict()]
        (self.place.signatures / f"{name}.json").write_text(json.dumps(signed))

    def missing(self) -> dict[str, int]:
        """Return the missing signatures of each role."""
        found = shared_ceremony.collect(self.place, NOW)
        return {role: sum(missing.count for missing in one.missing()) for role, one in found.items()}

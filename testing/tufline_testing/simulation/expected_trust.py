"""Which versions of root and targets are valid, by a simple model of ``admin``: a version counts once enough of the right keys signed it.

The model goes through the records one by one. A version that was withdrawn, or that another one superseded, before enough keys had signed
it is never valid. Signatures are verified by python-tuf.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature as KeySignature
from tuf.api.metadata import Metadata, Root, Targets

from tufline import records
from tufline.bus import Record
from tufline.records import Bootstrap, BootstrapStarted, NewMetadata, Signature, Withdrawal

_BOOTSTRAP = "bootstrap"


@dataclass
class _Waiting:
    """A version, or a bootstrap, that too few keys have signed.

    Attributes:
        offset: of its record in ``admin``.
        versions: role to the version.
    """

    offset: int
    versions: dict[str, Metadata[Any]]


@dataclass
class ExpectedTrust:
    """The valid versions.

    Attributes:
        roots: those of root, from version 1 on.
        targets: those of targets, if people sign them.
        waiting: what waits for signatures: ``bootstrap``, ``root`` or ``targets``.
    """

    roots: list[Metadata[Root]] = field(default_factory=list)
    targets: list[Metadata[Targets]] = field(default_factory=list)
    waiting: dict[str, _Waiting] = field(default_factory=dict)
    _bootstrap: int = -1
    _begun: bool = False

    @classmethod
    def read(cls, admin: Iterable[Record]) -> "ExpectedTrust":
        """Go through all records of ``admin``."""
        self = cls()
        for record in admin:
            match records.decode(records.admin_decoder, record.value):
                case Bootstrap() as content:
                    self._take_bootstrap(content, record.offset)
                case BootstrapStarted(bootstrap=offset) if offset == self._bootstrap:
                    self._begun = True
                    self.waiting.pop(_BOOTSTRAP, None)
                case NewMetadata() as content:
                    self._take_update(content, record.offset)
                case Signature() as content:
                    self._take_signature(content, record.offset)
                case Withdrawal(proposal=offset):
                    self.waiting = {kind: one for kind, one in self.waiting.items() if one.offset != offset}
        return self

    def _take_bootstrap(self, content: Bootstrap, offset: int) -> None:
        if self.roots and (self._begun or not content.replace):
            return
        of_roles = {Root.type: content.root, **({} if content.targets is None else {Targets.type: content.targets})}
        proposed = _Waiting(offset, {role: Metadata.from_dict(metadata) for role, metadata in of_roles.items()})
        if self._is_complete(proposed, is_bootstrap=True):
            self._accept(_BOOTSTRAP, proposed, offset)
        elif content.signing and (_BOOTSTRAP not in self.waiting or content.replace):
            self.waiting[_BOOTSTRAP] = proposed

    def _take_update(self, content: NewMetadata, offset: int) -> None:
        metadata: Metadata[Any] = Metadata.from_dict(content.metadata)
        valid = self.roots if content.role == Root.type else self.targets
        if metadata.signed.version != len(valid) + 1 or not self.roots:
            return
        proposed = _Waiting(offset, {content.role: metadata})
        if self._is_complete(proposed):
            self._accept(content.role, proposed, offset)
        elif content.signing and content.role not in self.waiting and self._is_backed(proposed, content.role):
            self.waiting[content.role] = proposed

    def _take_signature(self, content: Signature, offset: int) -> None:
        kind = _BOOTSTRAP if _BOOTSTRAP in self.waiting else content.role
        proposed = self.waiting.get(kind)
        if proposed is None or proposed.offset != content.proposal or content.role not in proposed.versions:
            return
        version = proposed.versions[content.role]
        signature = KeySignature(content.keyid, content.sig)
        for root in self._delegators(proposed, content.role, is_bootstrap=kind == _BOOTSTRAP):
            if _signs(root, content.role, signature, version.signed_bytes):
                version.signatures.setdefault(content.keyid, signature)
        if self._is_complete(proposed, is_bootstrap=kind == _BOOTSTRAP):
            self._accept(kind, proposed, offset)

    def _accept(self, kind: str, proposed: _Waiting, offset: int) -> None:
        if kind == _BOOTSTRAP:
            self.roots, self.targets, self._bootstrap = [], [], offset
            self.waiting.clear()
        self.waiting.pop(kind, None)
        for role, version in proposed.versions.items():
            (self.roots if role == Root.type else self.targets).append(version)

    def _is_complete(self, proposed: _Waiting, *, is_bootstrap: bool = False) -> bool:
        return all(
            root.get_verification_result(role, version.signed_bytes, version.signatures).verified
            for role, version in proposed.versions.items()
            for root in self._delegators(proposed, role, is_bootstrap=is_bootstrap)
        )

    def _is_backed(self, proposed: _Waiting, role: str) -> bool:
        """Return whether a version has only good signatures, one of them by a key that was trusted before: strangers propose nothing."""
        version, roots = proposed.versions[role], self._delegators(proposed, role, is_bootstrap=False)
        by_root = [{keyid for keyid, one in version.signatures.items() if _signs(root, role, one, version.signed_bytes)} for root in roots]
        trusted = by_root[:1] if role == Root.type else by_root
        return any(trusted) and set().union(*by_root) == version.signatures.keys()

    def _delegators(self, proposed: _Waiting, role: str, *, is_bootstrap: bool) -> list[Root]:
        """Return the roots under which a version must verify: of root the previous one and itself."""
        if is_bootstrap:
            return [proposed.versions[Root.type].signed]
        if role == Root.type:
            return [self.roots[-1].signed, proposed.versions[role].signed]
        # Clients may have any root from the newest one on under which the newest targets verify.
        newest, roots = self.targets[-1], [root.signed for root in self.roots]
        verifying = [root.get_verification_result(role, newest.signed_bytes, newest.signatures).verified for root in roots]
        return roots[max(number for number, verifies in enumerate(verifying) if verifies) :]


def _signs(root: Root, role: str, signature: KeySignature, content: bytes) -> bool:
    if signature.keyid not in root.roles[role].keyids:
        return False
    try:
        root.keys[signature.keyid].verify_signature(signature, content)
    except UnverifiedSignatureError:
        return False
    return True

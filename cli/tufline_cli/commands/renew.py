"""``tufline root``, ``tufline targets`` and ``tufline submit``: the next versions of the roles that people sign.

A version is either signed here with a first key and submitted, so that the others sign it over the server (``tufline sign --url``), or
written to files, signed anywhere (``tufline sign``), and then submitted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import click
from tuf.api.metadata import Metadata, Root, Targets

from tufline.client.rest import Client
from tufline.clock import utc_now
from tufline.trust import key_files, renewal, roles
from tufline.trust.renewal import KeyChanges
from tufline.trust.shared_ceremony import TRUSTED_ROOT
from tufline_cli.commands.key_holders import open_offline
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.options import config_option, header_option, url_option
from tufline_cli.passphrases import asker, passphrase_file_option
from tufline_cli.signing_steps import METADATA_PATH, changes, matching, read, signing_keys, waiting
from tufline_cli.trust_options import LIFETIME_DAYS

DEFAULT_DAYS = 365

skip_overlap_option = click.option(
    "--skip-overlap",
    is_flag=True,
    help="The keys that go are lost: nothing waits for their signatures. Clients whose caches hide the new root fail for a while.",
)


@dataclass(frozen=True, slots=True)
class _Newest:
    """The newest accepted versions on a server.

    Attributes:
        root: the newest root.
        targets: the newest targets; None if the server signs them.
        targets_metadata: the newest targets with its signatures.
        waiting_root: the version of the root that waits for targets with signatures by its keys; None if none does.
    """

    root: Metadata[Root]
    targets: Targets | None
    targets_metadata: Mapping[str, Any] | None
    waiting_root: int | None

    @classmethod
    def ask(cls, client: Client) -> "_Newest":
        """Ask a server."""
        answer = client.request("GET", "/api/v1/trust")
        metadata = answer["targets"]["metadata"]
        newest = None if metadata is None else roles.parse(Targets, metadata).signed
        return cls(roles.parse(Root, answer["root"]["metadata"]), newest, metadata, answer.get("waiting_root"))

    def say_what_waits(self, following: Root) -> None:
        """Say which root waits for the next targets, if a root follows."""
        waiting = self.waiting_root
        if waiting is None and renewal.must_be_signed_again(self.targets_metadata, following):
            waiting = following.version
        if waiting is None:
            return
        later = "" if waiting == following.version else f", and so is root version {following.version}"
        click.echo(
            f"root version {waiting} is published only once targets is signed with its keys{later}: "
            f"when root version {following.version} is accepted, run tufline targets renew, which a key of targets in root version "
            f"{following.version} must sign first"
        )


@dataclass(frozen=True, slots=True)
class _Signing:
    """Where and how the first signature is made.

    Attributes:
        client: talks to the server.
        keys: names of the private keys.
        passphrase_file: file with their passphrase.
        out: directory for files, if nothing is signed here.
        yes: whether to ask nothing.
        path: TOML file with settings.
        expires: the expiry of the new version.
    """

    client: Client
    keys: tuple[str, ...]
    passphrase_file: Path | None
    out: Path | None
    yes: bool
    path: Path | None
    expires: datetime

    def check(self) -> None:
        """Refuse the options unless exactly one of ``--key`` and ``--out`` is set."""
        if bool(self.keys) == bool(self.out):
            advice = "either --key KEY signs it here first and submits it, or --out DIRECTORY writes it, to sign it elsewhere"
            raise Failure("pass exactly one of --key and --out", advice, Exit.USAGE)

    def write_or_submit(self, following: Root | Targets, trusted: Metadata[Root], *, skip_overlap: bool = False) -> None:
        """Write the next version, or sign and submit it."""
        metadata: Metadata[Any] = Metadata(following)
        summary = changes(following, trusted.signed)
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / TRUSTED_ROOT).write_bytes(trusted.to_bytes())
            file = self.out / f"{following.type}.json"
            file.write_bytes(metadata.to_bytes())
            click.echo(summary)
            submitted = f"tufline submit {file}{' --skip-overlap' if skip_overlap else ''}"
            click.echo(f"next: tufline sign {file} --key KEY, on as many machines as needed, then {submitted}")
            return
        held = [open_offline(name, asker(self.passphrase_file), self.path) for name in dict.fromkeys(self.keys)]
        # The first signature must be by a key that is trusted already; a new key signs the submitted version.
        signers = matching(held, signing_keys(following, trusted.signed))
        if unused := {one.name for one in held} - {one.name for one, _ in signers}:
            raise Failure(f"{', '.join(sorted(unused))} can't sign {following.type}", "pass the private key of one of its key holders")
        click.echo(summary)
        if not self.yes:
            click.confirm("Sign and submit it?", abort=True)
        for one, key in signers:
            signature = one.sign(key, metadata.signed_bytes)
            metadata.signatures[signature.keyid] = signature
        _submit(self.client, [metadata], skip_overlap=skip_overlap)


def _signing_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of all commands that make a version: the command gets them as ``signing``, checked."""

    @wraps(command)
    def with_signing(
        days: int,
        keys: tuple[str, ...],
        passphrase_file: Path | None,
        out: Path | None,
        yes: bool,
        url: str,
        header: tuple[str, ...],
        path: Path | None,
        **of_command: Any,
    ) -> None:
        expires = utc_now().replace(microsecond=0) + timedelta(days=days)
        signing = _Signing(Client(url, header), keys, passphrase_file, out, yes, path, expires)
        signing.check()
        command(signing, **of_command)

    directory = click.Path(path_type=Path, file_okay=False)
    for option in (
        config_option,
        header_option,
        url_option,
        click.option("--yes", is_flag=True, help="Sign and submit without asking."),
        click.option(
            "--out", type=directory, help="Write the version to this directory instead, to sign it elsewhere; then tufline submit."
        ),
        passphrase_file_option,
        click.option("--key", "keys", multiple=True, metavar="KEY", help="Private key to sign with first: a file (PEM) or a URI."),
        click.option("--days", type=LIFETIME_DAYS, default=DEFAULT_DAYS, show_default=True, help="Lifetime of the new version."),
    ):
        with_signing = option(with_signing)
    return with_signing


def _submit(client: Client, versions: list[Metadata[Any]], *, skip_overlap: bool) -> None:
    wanted = {one.signed.type: one.to_dict() for one in versions}
    client.request("POST", METADATA_PATH, {"metadata": wanted, "skip_overlap": skip_overlap})
    missing = waiting(client).missing
    for one in versions:
        name = f"{one.signed.type} version {one.signed.version}"
        if left := missing.get(one.signed.type):
            click.echo(f"{name} waits for signatures: {left}")
            click.echo(f"next: the others sign it with tufline sign --url {client.url} --key KEY")
        else:
            click.echo(f"{name} is accepted: it is published once everything that it governs verifies under it (tufline status)")


@click.group()
def root() -> None:
    """Renew root, and change who holds its keys and those of targets."""


@root.command("renew")
@_signing_options
def renew_root(signing: _Signing) -> None:
    """Make the next root with a new lifetime, and the same keys.

    Sign it first with your own key (--key); the others sign it with tufline sign --url, each on their own machine.
    """
    newest = _Newest.ask(signing.client)
    following = renewal.renewed(newest.root.signed, signing.expires)
    signing.write_or_submit(following, newest.root)
    newest.say_what_waits(following)


def _split(option: str, given: str) -> tuple[str, str]:
    role, separator, value = given.partition("=")
    if not separator or not value or role not in renewal.ROLES:
        raise Failure(f"--{option} is {given!r}", f"write --{option} root=… or --{option} targets=…", Exit.USAGE)
    return role, value


def _number(given: str) -> int:
    if not given.isascii() or not given.isdigit():
        raise Failure(f"the threshold {given!r} is not a number", code=Exit.USAGE)
    return int(given)


def _key_changes(add: tuple[str, ...], remove: tuple[str, ...], threshold: tuple[str, ...]) -> dict[str, KeyChanges]:
    """Read the options of ``tufline root keys``."""
    added, removed, thresholds = ([_split(*one) for one in found] for found in _named(add, remove, threshold))

    def read_key(file: str) -> Any:
        return key_files.read(Path(file).read_bytes(), utc_now()).key

    def keyid(key: str) -> str:
        return read_key(key).keyid if Path(key).is_file() else key

    return {
        role: KeyChanges(
            [read_key(file) for of, file in added if of == role],
            [keyid(key) for of, key in removed if of == role],
            next((_number(count) for of, count in thresholds if of == role), None),
        )
        for role in dict.fromkeys(role for role, _ in (*added, *removed, *thresholds))
    }


def _named(add: tuple[str, ...], remove: tuple[str, ...], threshold: tuple[str, ...]) -> list[list[tuple[str, str]]]:
    return [[(name, one) for one in given] for name, given in (("add", add), ("remove", remove), ("threshold", threshold))]


@root.command("keys")
@click.option(
    "--add", multiple=True, metavar="ROLE=FILE", help="Public key to add to root or targets: a file that tufline keys public wrote."
)
@click.option(
    "--remove", multiple=True, metavar="ROLE=KEY", help="Key to remove: its file, or the start of its keyid. Use --add to replace it."
)
@click.option("--threshold", multiple=True, metavar="ROLE=NUMBER", help="How many keys must sign the role from now on.")
@skip_overlap_option
@_signing_options
def keys_of_root(signing: _Signing, add: tuple[str, ...], remove: tuple[str, ...], threshold: tuple[str, ...], skip_overlap: bool) -> None:
    """Make the next root, with other keys or thresholds of root or targets.

    It must be signed by enough keys of the current root, and by enough keys of the new one. For online keys use tufline keys rotate.
    """
    asked = _key_changes(add, remove, threshold)
    newest = _Newest.ask(signing.client)
    following = renewal.with_keys(newest.root.signed, asked, signing.expires)
    signing.write_or_submit(following, newest.root, skip_overlap=skip_overlap)
    newest.say_what_waits(following)


@click.group()
def targets() -> None:
    """Renew targets, if people sign it."""


@targets.command("renew")
@_signing_options
def renew_targets(signing: _Signing) -> None:
    """Make the next targets with a new lifetime, and the same content.

    Sign it first with your own key (--key); the others sign it with tufline sign --url, each on their own machine.
    """
    newest = _Newest.ask(signing.client)
    if newest.targets is None:
        raise Failure("the server signs targets here", "nothing needs to be done: it renews them by itself")
    signing.write_or_submit(renewal.renewed(newest.targets, signing.expires), newest.root)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="FILE...")
@skip_overlap_option
@url_option
@header_option
def submit(files: tuple[Path, ...], skip_overlap: bool, url: str, header: tuple[str, ...]) -> None:
    """Submit root or targets in FILE, signed with tufline sign, to the server. The server waits for missing signatures."""
    client = Client(url, header)
    versions = [read(file) for file in files]
    if len({one.signed.type for one in versions}) != len(versions):
        raise Failure("two files are of the same role", "submit one version of a role at a time", Exit.USAGE)
    _submit(client, versions, skip_overlap=skip_overlap)

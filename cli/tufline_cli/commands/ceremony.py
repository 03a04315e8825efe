"""``tufline ceremony``: leads several people through the start of a repository, each with a key on a machine of their own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
import yaml

from tufline.client.rest import Client
from tufline.clock import utc_now
from tufline.errors import InvalidInputError
from tufline.trust import ceremony_answers, shared_ceremony
from tufline.trust.ceremony import DEFAULT_DAYS, PEP458, RSTUF
from tufline.trust.ceremony_answers import Answers, majority
from tufline.trust.rules import MAX_EXPIRATION_DAYS
from tufline.trust.shared_ceremony import ALL, Place
from tufline.trust.signing import SHOWN_KEYID, Signable
from tufline_cli.commands.bootstrapping import submit
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.options import header_option

ANSWERS = "ceremony.yaml"
"""The answers, in the ceremony's directory."""

WIDTH = 96
"""The longest line of an explanation, in characters."""

HEADING = "# The decisions for this repository. tufline ceremony --answers FILE reads such a file, and asks nothing.\n"


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Failure(f"{path} is not YAML: {error}", code=Exit.USAGE) from error
    if not isinstance(content, dict):
        raise Failure(f"{path} has no answers", "write at least root_holders: [ada, ben, cy]", Exit.USAGE)
    return content


def _save(path: Path, answers: Mapping[str, Any]) -> None:
    # The file is replaced as a whole, so that no answer is lost if the command is interrupted.
    new = path.with_suffix(".new")
    new.write_text(HEADING + yaml.safe_dump(dict(answers), sort_keys=False))
    new.replace(path)


def _read(path: Path, content: Mapping[str, Any]) -> Answers:
    try:
        return ceremony_answers.read(content)
    except InvalidInputError as error:
        raise Failure(f"{path}: {error}", code=Exit.USAGE) from error


class _Interview:
    """Asks the questions that are not answered yet, and saves each answer."""

    def __init__(self, path: Path, known: dict[str, Any]) -> None:
        self._path = path
        self.known = known

    def ask(self, name: str, why: str, question: str, default: Any, read: Callable[[str], Any]) -> Any:
        """Ask one question, unless it was answered before.

        Args:
            name: the answer's name in the file.
            why: what the answer decides, in plain words.
            question: the question.
            default: the answer if Enter is pressed; None if there is none.
            read: makes the answer from the text, or raises InvalidInputError or ValueError.

        Returns:
            The answer.
        """
        if name not in self.known:

            def value(text: Any) -> Any:
                try:
                    return read(str(text))
                except ValueError as error:
                    raise click.BadParameter(str(error)) from error

            if why:
                click.echo(f"\n{click.wrap_text(why, WIDTH)}")
            self.known[name] = click.prompt(question, default=default, value_proc=value)
            _save(self._path, self.known)
        return self.known[name]

    def holders(self, name: str, why: str, question: str, default: list[str] | None) -> list[str]:
        """Ask for people."""
        text = None if default is None else ", ".join(default)
        found: list[str] = self.ask(name, why, question, text, ceremony_answers.names)
        return found

    def number(self, name: str, why: str, question: str, default: int, least: int, most: int) -> int:
        """Ask for a number."""

        def read(text: str) -> int:
            if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
                raise InvalidInputError(f"write a number from {least} to {most}")
            return int(text)

        found: int = self.ask(name, why, question, default, read)
        return found

    def choice(self, name: str, why: str, question: str, choices: Mapping[str, str], default: str) -> str:
        """Ask for one of a few words; ``choices`` maps each word to the answer."""

        def read(text: str) -> str:
            if text not in choices:
                raise InvalidInputError(f"write {' or '.join(choices)}")
            return choices[text]

        found: str = self.ask(name, why, question, default, read)
        return found


def _interview(path: Path, known: dict[str, Any]) -> dict[str, Any]:
    """Ask the questions that are not answered yet, and return all answers."""
    interview = _Interview(path, known)
    holders = interview.holders(
        "root_holders",
        "Root keys decide which other keys count. A few people you trust hold one each, in different places. They sign about once a "
        "year, and when a key changes. Three people are a good start, so that one of them can be away or lose the key.",
        "Who holds root keys? (names)",
        None,
    )
    count = len(holders)
    interview.number(
        "root_threshold",
        "This many of them must sign together. With one, a single stolen key is enough to take over the repository; with all, a "
        "single lost key stops you for good.",
        f"How many of the {count} must sign?",
        majority(count),
        1,
        count,
    )
    mode = interview.choice(
        "mode",
        "Another list, called targets, says which online keys may vouch for files. If people sign it, nobody who breaks into the "
        "server can change that. If the server signs it, people sign less often.",
        "Who signs targets: people or server?",
        {"people": PEP458, "server": RSTUF},
        "people",
    )
    if mode == PEP458:
        signers = interview.holders(
            "targets_holders", "They may be the same people: each of them has one key for both.", "Who signs targets? (names)", holders
        )
        interview.number("targets_threshold", "", f"How many of the {len(signers)} must sign?", majority(len(signers)), 1, len(signers))
    click.echo("\nSignatures expire, so that nobody can show old lists for long. People renew theirs, the server the others.")
    for role, what in (
        ("root", "root"),
        ("targets", "targets"),
        ("snapshot", "a snapshot"),
        ("timestamp", "a timestamp"),
        ("bins", "a bin"),
    ):
        who = "people" if role == "root" or (role == "targets" and mode == PEP458) else "the server"
        interview.number(
            f"{role}_days",
            f"({who} renew this)" if who == "people" else "(the server renews this)",
            f"Lifetime of {what}, in days?",
            DEFAULT_DAYS[role],
            1,
            MAX_EXPIRATION_DAYS,
        )
    interview.choice(
        "online_keys",
        "The server signs with online keys: in Vault, a KMS, a token or a file. One key is simpler; a key for each role limits what "
        "each can do.",
        "One online key, or one for each role: one or each?",
        {"one": "one", "each": "each"},
        "one",
    )
    if "bins" not in known:
        click.echo(
            "\nFiles are spread over lists, called bins. More bins make each update smaller, and every client's first download larger."
        )
        files = click.prompt("How many files will you have in a few years?", default=1_000_000, type=click.IntRange(1))
        interview.ask("bins", "", "Number of bins (a power of two, 2 to 16384)?", ceremony_answers.suggested_bins(files), _bins)
    return interview.known


def _bins(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InvalidInputError("write a number")
    ceremony_answers.read({"root_holders": ["x"], "bins": int(text)})
    return int(text)


def _ask_for_keys(place: Place) -> None:
    missing = set(place.missing_keys)
    click.echo("\nThese files are missing; run this command again when they are there:")
    for name, path in place.keys.items():
        if path in missing:
            click.echo(f"  {path}: {name} makes a key on their own machine, and hands over its public part:")
            click.echo(
                f"      tufline keys generate {name}.pem    (or, for a token or a KMS: tufline keys public URI --out {name}.pub.json)"
            )
    for path in dict.fromkeys(place.online.values()):
        if path in missing:
            what = "the online key" if path.stem == ALL else f"the online key of {path.stem}"
            click.echo(f"  {path}: the proof that the signer can use {what}, made where that key is:")
            click.echo(f"      tufline keys prove URI > {path.name}")


def _ask_for_signatures(place: Place, found: Mapping[str, Signable]) -> bool:
    """Print who still has to sign, and return whether signatures are missing."""
    names = {signed_key.keyid: name for name, signed_key in shared_ceremony.public_keys(place).items()}
    files = " ".join(path.name for path in place.to_sign.values())
    complete = True
    for role, one in found.items():
        for missing in one.missing():
            complete = False
            who = ", ".join(sorted(names.get(keyid, keyid[:SHOWN_KEYID]) for keyid in missing.keyids))
            click.echo(f"{role}: {missing.count} more of {who} must sign")
    if not complete:
        click.echo(f"\nEach of them copies {place.directory / 'sign'} to the machine with the key, and signs there:")
        click.echo(f"    tufline sign {files} --key NAME.pem --signatures NAME.json")
        click.echo(f"Put NAME.json into {place.signatures}, and run this command again.")
    return not complete


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--answers",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help=f"YAML file with all answers, in the format of {ANSWERS}: nothing is asked.",
)
@click.option(
    "--submit", "url", help="URL of the server to bootstrap. Signatures that are missing are then collected there (tufline sign --url)."
)
@header_option
def ceremony(directory: Path, answers: Path | None, url: str | None, header: tuple[str, ...]) -> None:
    """Start a repository with several people, each with a key of their own on another machine.

    It asks who holds keys and how many must sign, prints what each person has to do next, and checks what they hand over: public keys and
    signatures, never private keys. Run it with the same DIRECTORY until the repository is started; it can be interrupted at any time.
    """
    path = directory / ANSWERS
    if answers is not None:
        decided = _read(answers, _load(answers))
        content = {name: value for name, value in msgspec.to_builtins(decided).items() if value is not None}
        if path.exists() and _load(path) != content:
            raise Failure(f"{path} has other answers", "leave --answers out, or choose another directory", Exit.USAGE)
    elif path.exists():
        content = _load(path)
        decided = None
    else:
        content, decided = {}, None
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("keys", "online"):
        (directory / name).mkdir(exist_ok=True)
    if answers is not None:
        _save(path, content)
    elif not content or "bins" not in content:
        content = _interview(path, content)
    place = Place(directory, decided or _read(path, content))
    _do_next_step(place, None if url is None else Client(url, header))


def _do_next_step(place: Place, client: Client | None) -> None:
    """Do the next step, or print what people have to do first."""
    now = utc_now()
    if not place.is_prepared:
        for text in ceremony_answers.advice(place.answers):
            click.echo(f"note: {text}")
        if place.missing_keys:
            _ask_for_keys(place)
            return
        shared_ceremony.prepare(place, now)
        click.echo(f"all public keys are here; the files to sign are in {place.directory / 'sign'}")
    found = shared_ceremony.collect(place, now)
    waits = _ask_for_signatures(place, found)
    if not waits:
        shared_ceremony.finish(place, found)
        root, payload = place.directory / "root.json", place.directory / "bootstrap.json"
        click.echo(f"enough people signed: clients start with {root}, the server with {payload}")
    if client is None:
        if not waits:
            click.echo(f"next: start the server, and run tufline ceremony {place.directory} --submit URL")
        return
    submit(client, shared_ceremony.bootstrap(place, found))

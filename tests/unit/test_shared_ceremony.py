"""A ceremony of several people: what they decide, what they hand over, and how it goes on after an interruption."""

import json
import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from tuf.api.metadata import Metadata, Root

from tufline.errors import InvalidInputError, MetadataError
from tufline.trust import ceremony_answers, key_files, shared_ceremony
from tufline.trust.ceremony import make_key
from tufline.trust.ceremony_answers import suggested_bins
from tufline.trust.shared_ceremony import Place
from tufline_cli import main
from tufline_cli.exit_codes import Exit
from tufline_testing.checkout import ROOT
from tufline_testing.key_holders import NOW, People, prove

PEOPLE = ("ada", "ben", "cy")
ANSWERS: dict[str, Any] = {"root_holders": list(PEOPLE), "bins": 4}


@pytest.fixture
def people(tmp_path: Path) -> People:
    """Prepare a ceremony that waits for signatures."""
    made = People(tmp_path / "ceremony", ANSWERS)
    made.hand_over()
    shared_ceremony.prepare(made.place, NOW)
    return made


MODES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "people sign targets": ({}, ("root", "targets")),
    "the server signs targets": ({"mode": "rstuf"}, ("root",)),
    "each role has an online key": ({"online_keys": "each"}, ("root", "targets")),
    "each, and the server signs targets": ({"online_keys": "each", "mode": "rstuf"}, ("root",)),
    "others sign targets": ({"targets_holders": ["cy", "dee"], "targets_threshold": 2}, ("root", "targets")),
}


@pytest.mark.parametrize(("answers", "roles"), MODES.values(), ids=MODES)
def test_a_ceremony_ends_with_a_bootstrap(tmp_path: Path, answers: dict[str, Any], roles: tuple[str, ...]) -> None:
    """Once enough people signed, root and payload verify; no private key was ever in the directory."""
    people = People(tmp_path / "ceremony", ANSWERS | answers)
    assert len(people.place.missing_keys) == len(people.held) + len(people.online)
    people.hand_over()
    assert not people.place.missing_keys
    shared_ceremony.prepare(people.place, NOW)
    assert people.missing() == dict.fromkeys(roles, 2)
    for name in people.held:
        people.sign(name, *(role for role in roles if name in people.place.answers.signers[role]))
    assert people.missing() == dict.fromkeys(roles, 0)
    shared_ceremony.finish(people.place, shared_ceremony.collect(people.place, NOW))
    payload = json.loads((people.place.directory / "bootstrap.json").read_text())
    assert set(payload["metadata"]) == set(roles)
    root = Metadata[Root].from_file(str(people.place.directory / "root.json"))
    for role in roles:
        one: Metadata[Any] = Metadata.from_dict(payload["metadata"][role])
        root.signed.verify_delegate(role, one.signed_bytes, one.signatures)
    uris = {root.signed.keys[keyid].unrecognized_fields["x-rstuf-online-key-uri"] for keyid in root.signed.roles["timestamp"].keyids}
    assert uris == {f"fn:{people.place.online['timestamp'].stem}.pem"}
    assert not any(b"PRIVATE" in path.read_bytes() for path in people.place.directory.rglob("*") if path.is_file())


def _of_nobody(people: People) -> None:
    people.held["ada"] = make_key("ed25519")
    people.sign("ada", "root")


def _of_other_content(people: People) -> None:
    people.sign("ada", "root")
    path = people.place.signatures / "ada.json"
    content = json.loads(path.read_text())
    content["root"][0]["sig"] = people.held["ada"].signer.sign(b"something else").signature
    path.write_text(json.dumps(content))


def _of_no_role(people: People) -> None:
    (people.place.signatures / "ada.json").write_text('{"snapshot": []}')


def _of_no_signatures(people: People) -> None:
    (people.place.signatures / "ada.json").write_text('{"root": [1]}')


def _of_no_json(people: People) -> None:
    (people.place.signatures / "ada.json").write_text("-----BEGIN")


BAD_SIGNATURES: dict[str, tuple[Callable[[People], None], str]] = {
    "foreign key": (_of_nobody, "is not one of the keys that sign root version 1"),
    "other content": (_of_other_content, "is not valid for root version 1"),
    "role that nobody signs": (_of_no_role, "signatures of 'snapshot'"),
    "no signatures": (_of_no_signatures, "does not contain signatures"),
    "no JSON": (_of_no_json, "is not JSON"),
}


@pytest.mark.parametrize(("make", "reason"), BAD_SIGNATURES.values(), ids=BAD_SIGNATURES)
def test_a_signature_that_does_not_count_is_refused(people: People, make: Callable[[People], None], reason: str) -> None:
    """The file and the reason are reported, and the ceremony continues without that file."""
    make(people)
    with pytest.raises(MetadataError, match=f"ada.json.*{reason}"):
        people.missing()
    (people.place.signatures / "ada.json").unlink()
    people.sign("ben", "root", "targets")
    assert people.missing() == {"root": 1, "targets": 1}


def test_the_files_to_sign_do_not_change(people: People) -> None:
    """After people may have signed, another key or answer is an error, not other metadata; put back, the ceremony goes on."""
    people.sign("ada", "root", "targets")
    right = people.place.keys["ben"].read_text()
    people.place.keys["ben"].write_text(key_files.to_json([make_key("ed25519").signer.public_key]))
    with pytest.raises(MetadataError, match="was made from other answers or public keys"):
        people.missing()
    people.place.keys["ben"].write_text(right)
    assert people.missing() == {"root": 1, "targets": 1}
    other = Place(people.place.directory, ceremony_answers.read(ANSWERS | {"root_threshold": 1}))
    with pytest.raises(MetadataError, match="was made from other answers or public keys"):
        shared_ceremony.collect(other, NOW)


def test_a_ceremony_may_take_longer_than_a_proof_is_valid(people: People) -> None:
    """The age of a proof counts when people get something to sign; signatures may come later."""
    people.sign("ada", "root", "targets")
    people.sign("ben", "root", "targets")
    later = NOW + timedelta(days=60)
    assert all(one.is_complete for one in shared_ceremony.collect(people.place, later).values())
    shutil.rmtree(people.place.directory / "sign")
    with pytest.raises(MetadataError, match="make it again with tufline keys prove"):
        shared_ceremony.prepare(people.place, later)


def _no_proof(people: People) -> None:
    path = people.place.online["timestamp"]
    path.write_text(key_files.to_json([people.online[path].signer.public_key]))


def _proof_of_another_key(people: People) -> None:
    path = people.place.online["timestamp"]
    content = json.loads(path.read_text())
    content["signatures"][0]["sig"] = json.loads(prove(make_key("ecdsa", "fn:all.pem")))["signatures"][0]["sig"]
    path.write_text(json.dumps(content))


def _same_key_twice(people: People) -> None:
    people.place.keys["ben"].write_text(people.place.keys["ada"].read_text())


def _online_key_of_a_person(people: People) -> None:
    people.place.online["timestamp"].write_text(prove(make_key("ecdsa", "fn:all.pem")))
    proved = key_files.read(people.place.online["timestamp"].read_text(), NOW).key
    people.place.keys["ben"].write_text(key_files.to_json([key_files.plain(proved)]))


def _place_of_a_private_key(people: People) -> None:
    people.place.keys["ada"].write_text(key_files.to_json([make_key("ecdsa", "hsm:1").signer.public_key]))


BAD_KEYS: dict[str, tuple[Callable[[People], None], str]] = {
    "online key without a proof": (_no_proof, "all.json has a key, but no proof"),
    "proof of another key": (_proof_of_another_key, "all.json: .* is not signed by the key that it names"),
    "one key for two people": (_same_key_twice, "ada and ben have the same key"),
    "online key of a person": (_online_key_of_a_person, "have the same key"),
    "place of a private key": (_place_of_a_private_key, "contains the URI of its private key"),
}


@pytest.mark.parametrize(("change", "reason"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_key_that_can_not_be_used_is_found_before_people_sign(tmp_path: Path, change: Callable[[People], None], reason: str) -> None:
    """Nothing to sign is written while a key is wrong."""
    people = People(tmp_path / "ceremony", ANSWERS)
    people.hand_over()
    change(people)
    with pytest.raises(MetadataError, match=reason):
        shared_ceremony.prepare(people.place, NOW)
    assert not (people.place.directory / "sign").exists()


BAD_ANSWERS = {
    "nobody": ({"root_holders": []}, "there are 0 names"),
    "nothing": ({"root_holders": None}, "Expected `array`"),
    "unknown": ({"root_treshold": 2}, "root_treshold"),
    "a threshold of zero": ({"root_threshold": 0}, "choose 1 to 3"),
    "threshold of too many": ({"root_threshold": 4}, "choose 1 to 3"),
    "same name twice": ({"root_holders": ["ada", "Ada"]}, "twice"),
    "same file of two roles": ({"targets_holders": ["Ada"]}, "would share a file"),
    "name of another directory": ({"root_holders": ["../ada"]}, "can't be the name of a file"),
    "bins": ({"bins": 5}, "power of two"),
    "days": ({"timestamp_days": 0}, "timestamp_days is 0"),
    "mode": ({"mode": "tuf"}, "mode"),
}


@pytest.mark.parametrize(("answers", "reason"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_impossible_answers_are_refused(answers: dict[str, Any], reason: str) -> None:
    """Each reason names what to change."""
    with pytest.raises(InvalidInputError, match=reason):
        ceremony_answers.read(ANSWERS | answers)


@pytest.mark.parametrize(("files", "bins"), [(1, 2), (2_000, 2), (2_001, 4), (1_000_000, 1024), (2_000_000, 2048), (10**9, 16384)])
def test_suggested_bins(files: int, bins: int) -> None:
    """The suggested number of bins is a valid power of two, with about a thousand files in each if possible."""
    assert suggested_bins(files) == bins


def test_the_guide_has_the_defaults() -> None:
    """The file in docs/how-to/ceremony.md decides the same as one that has only the root holders."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs" / "how-to" / "ceremony.md").read_text(), re.MULTILINE | re.DOTALL)
    shown, default = ceremony_answers.read(yaml.safe_load(text)), ceremony_answers.read({"root_holders": list(PEOPLE)})
    assert set(yaml.safe_load(text)) == set(shown.__struct_fields__)
    assert (shown.plan, shown.signers, shown.online_keys) == (default.plan, default.signers, default.online_keys)


def test_advice_names_the_dangers() -> None:
    """One signature that is enough, a threshold without reserve, and targets in the server's hand are pointed out."""
    assert ceremony_answers.advice(ceremony_answers.read(ANSWERS)) == []
    risky = ceremony_answers.read({"root_holders": ["ada"], "mode": "rstuf"})
    assert len(ceremony_answers.advice(risky)) == 3


def run(*arguments: str | Path, typed: str = "") -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, ["ceremony", *map(str, arguments)], input=typed)


def test_the_interview_can_be_left_and_resumed(tmp_path: Path) -> None:
    """Each answer is saved: after an interruption only unanswered questions are asked, and none once all are answered."""
    directory = tmp_path / "ceremony"
    left = run(directory, typed="ada ben,ada\nada, ben, cy\n5\n2\n")
    assert (left.exit_code, "a name occurs twice" in left.output, "write a number from 1 to 3" in left.output) == (1, True, True), (
        left.output
    )
    assert yaml.safe_load((directory / "ceremony.yaml").read_text()) == {"root_holders": list(PEOPLE), "root_threshold": 2}
    done = run(directory, typed="nobody\npeople\n\n\n90\n\n\n\n\neach\n5000\n\n")
    assert done.exit_code == Exit.OK, done.output
    assert "Who holds root keys" not in done.output
    assert "write people or server" in done.output
    expected = ANSWERS | {"root_threshold": 2, "targets_holders": list(PEOPLE), "targets_threshold": 2, "root_days": 90, "mode": "pep458"}
    expected |= {"online_keys": "each", "bins": 8, "targets_days": 365, "snapshot_days": 7, "timestamp_days": 1, "bins_days": 7}
    assert yaml.safe_load((directory / "ceremony.yaml").read_text()) == expected
    again = run(directory)
    assert (again.exit_code, "tufline keys generate ada.pem" in again.output, "timestamp.json" in again.output) == (0, True, True), (
        again.output
    )


def test_a_file_answers_everything(tmp_path: Path) -> None:
    """With a YAML file nothing is asked, at the first run and at the next ones; another file for the same ceremony is refused."""
    people, answers = People(tmp_path / "ceremony", ANSWERS), tmp_path / "answers.yaml"
    answers.write_text("root_holders: [ada, ben, cy]\nbins: 4\n")
    first = run(people.place.directory, "--answers", answers)
    assert (first.exit_code, "These files are missing" in first.output) == (0, True), first.output
    people.hand_over()
    for arguments in ((), ("--answers", answers)):
        waits = run(people.place.directory, *arguments)
        assert (waits.exit_code, "root: 2 more of ada, ben, cy must sign" in waits.output) == (0, True), waits.output
    people.sign("cy", "root", "targets")
    people.sign("ada", "root", "targets")
    done = run(people.place.directory)
    assert (done.exit_code, "enough people signed" in done.output) == (0, True), done.output
    answers.write_text("root_holders: [ada, ben, cy]\nbins: 8\n")
    other = run(people.place.directory, "--answers", answers)
    assert (other.exit_code, "has other answers" in other.output) == (Exit.USAGE, True), other.output
    for content, reason in (("[", "is not YAML"), ("- ada", "has no answers"), ("bins: 4\n", "root_holders")):
        answers.write_text(content)
        bad = run(tmp_path / "other", "--answers", answers)
        assert (bad.exit_code, reason in bad.output, (tmp_path / "other").exists()) == (Exit.USAGE, True, False), bad.output

"""The decisions of a ceremony, as its YAML file has them. Pure.

In: the decoded file. Out: complete and valid answers, or the reason why they are not, in words for people who do not know TUF.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from tufline.decoding import converter
from tufline.errors import InvalidInputError
from tufline.metadata.bins import MAX_BINS, MIN_BINS, BinLayout
from tufline.metadata.profiles import STANDARD, Profile
from tufline.trust import ceremony
from tufline.trust.ceremony import DEFAULT_DAYS, ONLINE_ROLES, PEP458, Plan
from tufline.trust.rules import MAX_EXPIRATION_DAYS

FILES_PER_BIN: Final = 1_000
"""How many files a bin should have once the repository has grown: a client loads a bin for each file, and a change signs a bin again."""

MOST_HOLDERS: Final = 100
"""The most people of a role: each key and signature is in every root that clients load."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Answers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The decisions of a ceremony.

    Attributes:
        root_holders: the people who hold root keys: short names, which become the names of files.
        root_threshold: how many of them must sign; None for a majority.
        mode: ``pep458`` if people sign targets, ``rstuf`` if the online key does.
        targets_holders: the people who sign targets; None for the same people as root. A person who signs both uses one key.
        targets_threshold: how many of them must sign; None for a majority.
        root_days: lifetime of root, in days.
        targets_days: lifetime of targets, in days.
        snapshot_days: lifetime of a snapshot, in days.
        timestamp_days: lifetime of a timestamp, in days.
        bins_days: lifetime of a bin, in days.
        online_keys: ``one`` if all online roles share a key, ``each`` if each has its own.
        bins: the number of bins.
        client_profile: the clients that must be able to read the repository.
    """

    root_holders: list[str]
    root_threshold: int | None = None
    mode: Literal["pep458", "rstuf"] = "pep458"
    targets_holders: list[str] | None = None
    targets_threshold: int | None = None
    root_days: int = DEFAULT_DAYS["root"]
    targets_days: int = DEFAULT_DAYS["targets"]
    snapshot_days: int = DEFAULT_DAYS["snapshot"]
    timestamp_days: int = DEFAULT_DAYS["timestamp"]
    bins_days: int = DEFAULT_DAYS["bins"]
    online_keys: Literal["one", "each"] = "one"
    bins: int = 2048
    client_profile: Profile = STANDARD

    @property
    def signers(self) -> dict[str, list[str]]:
        """For each role that people sign, the names of these people."""
        found = {"root": self.root_holders}
        if self.mode == PEP458:
            found["targets"] = self.root_holders if self.targets_holders is None else self.targets_holders
        return found

    @property
    def thresholds(self) -> dict[str, int]:
        """For each role that people sign, how many of them must sign."""
        given = {"root": self.root_threshold, "targets": self.targets_threshold}
        return {role: majority(len(names)) if given[role] is None else int(given[role] or 0) for role, names in self.signers.items()}

    @property
    def holders(self) -> list[str]:
        """The names of all people who have a key, without duplicates."""
        return list(dict.fromkeys(name for names in self.signers.values() for name in names))

    @property
    def online_roles(self) -> tuple[str, ...]:
        """The roles that are signed online."""
        return ONLINE_ROLES[self.mode]

    @property
    def plan(self) -> Plan:
        """The settings from which the first metadata is made."""
        return Plan(
            self.bins,
            self.mode,
            root_threshold=self.thresholds["root"],
            targets_threshold=self.thresholds.get("targets", 1),
            days={role: getattr(self, f"{role}_days") for role in DEFAULT_DAYS},
            profile=self.client_profile,
        )


_read_answers: Final = converter(Answers)


def majority(count: int) -> int:
    """Return how many of a number of people are a majority.

    Args:
        count: how many there are.
    """
    return count // 2 + 1


def suggested_bins(files: int) -> int:
    """Return how many bins suit a repository.

    Args:
        files: how many files it will have in a few years.

    Returns:
        A valid number of bins, with at most ``FILES_PER_BIN`` files in each if that is possible.
    """
    bins = MIN_BINS
    while bins < MAX_BINS and bins * FILES_PER_BIN < files:
        bins *= 2
    return bins


def names(text: str) -> list[str]:
    """Split a typed list into names.

    Args:
        text: names, with commas or spaces between them.

    Returns:
        The names, in their order.

    Raises:
        InvalidInputError: if they can't be used, with the reason.
    """
    return check_names([name for name in re.split(r"[,\s]+", text) if name])


def check_names(found: list[str]) -> list[str]:
    """Refuse names that can't be the names of files, or that are not distinct.

    Args:
        found: the names.

    Returns:
        The same names.

    Raises:
        InvalidInputError: with the reason and what to do.
    """
    if not 1 <= len(found) <= MOST_HOLDERS:
        raise InvalidInputError(f"there are {len(found)} names: write 1 to {MOST_HOLDERS}, such as ada, ben, cy")
    for name in found:
        if not _NAME.fullmatch(name):
            raise InvalidInputError(f"{name!r} can't be the name of a file: use letters, digits, - and _")
    if len({name.lower() for name in found}) != len(found):
        raise InvalidInputError("a name occurs twice: each person has one key, and signs once")
    return found


def read(content: Mapping[str, Any]) -> Answers:
    """Read the answers of a ceremony.

    Args:
        content: the decoded YAML.

    Returns:
        The answers, all valid.

    Raises:
        InvalidInputError: with the reason and what to do.
    """
    try:
        answers = _read_answers(dict(content))
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"{error}: correct it in the YAML file") from error
    by_file: dict[str, str] = {}
    for role, holders in answers.signers.items():
        check_names(holders)
        threshold = answers.thresholds[role]
        if not 1 <= threshold <= len(holders):
            raise InvalidInputError(f"{threshold} signatures for {role} can't be made by {len(holders)} people: choose 1 to {len(holders)}")
        for name in holders:
            if by_file.setdefault(name.lower(), name) != name:
                raise InvalidInputError(f"{name} and {by_file[name.lower()]} would share a file on some systems: choose other names")
    for role in DEFAULT_DAYS:
        if not 1 <= (days := getattr(answers, f"{role}_days")) <= MAX_EXPIRATION_DAYS:
            raise InvalidInputError(f"{role}_days is {days}, but must be from 1 to {MAX_EXPIRATION_DAYS}")
    try:
        BinLayout.of(answers.bins)
    except ValueError as error:
        raise InvalidInputError(str(error)) from error
    return answers


def advice(answers: Answers) -> list[str]:
    """Return what people should know about their decisions before they sign.

    Args:
        answers: the decisions.

    Returns:
        A sentence for each.
    """
    found = []
    for role, holders in answers.signers.items():
        threshold = answers.thresholds[role]
        if threshold == 1:
            found.append(f"One person alone can sign {role}: whoever gets one of its keys controls {_WHAT[role]}.")
        if threshold == len(holders):
            found.append(f"If one key of {role} is lost, nobody can sign {role} any more: make more keys than must sign.")
    if answers.mode == ceremony.RSTUF:
        found.append("The server signs targets: whoever gets its online key can vouch for any file until people replace that key.")
    return found


_WHAT: Final[Mapping[str, str]] = {"root": "the whole repository", "targets": "which keys vouch for files"}

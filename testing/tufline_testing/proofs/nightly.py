"""Runs the proofs that take longer than ``make test``, and records them in docs/proofs.md: ``make nightly SEED=1``.

Only this program writes docs/proofs.md. It refuses to run on a work tree with changes, so that a row's commit is the proved code. Each
proof is a command that prints its result as its last line and ends with a nonzero exit code if it fails. With ``PROOFS`` it runs only those
proofs, and the rows of the others stay unchanged. It ends with exit code 1 if any proof failed.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tufline_testing.checkout import ROOT

PAGE: Final = ROOT / "docs" / "proofs.md"
GIT: Final = shutil.which("git") or "git"

SEED: Final = "{seed}"
"""Placeholder for the seed in a command."""

LONGEST_RESULT: Final = 300
"""How much of a proof's last line is recorded, in characters."""

HEADER: Final = """# Proofs

Written by `make nightly`; do not edit. Each row is the newest run of a proof: what is proved, on which commit, by which command. A proof
with two rows was run with two seeds. Run one alone with `make nightly PROOFS="simulate-1" SEED=7`.

| proof | what it shows | date | commit | seed | minutes | passed | result |
|---|---|---|---|---|---|---|---|
"""

ROW: Final = re.compile(r"\| (?P<name>[a-z0-9-]+) \| .* \|")


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof.

    Attributes:
        name: name on the command line and in the table.
        shows: the guarantee that holds if it passes.
        script: a module to run as a program, with its arguments; ``SEED`` stands for the seed.
        seed_offset: added to the seed, for a proof that is run with two seeds.
    """

    name: str
    shows: str
    script: Sequence[str]
    seed_offset: int = 0

    def command(self, seed: int) -> list[str]:
        """Make the command line.

        Args:
            seed: seed of this run.

        Returns:
            The program with its arguments.
        """
        program, *arguments = (str(seed + self.seed_offset) if word == SEED else word for word in self.script)
        return [sys.executable, "-m", program, *arguments]


PROOFS: Final = (
    Proof(
        "fuzz",
        "an hour of coverage-guided hostile bytes in every decoder: only documented errors, and nothing takes long",
        ("tufline_testing.fuzz.decoders", "--seconds", "3600", "--seed", SEED),
    ),
    Proof(
        "fuzz-rest",
        "schemathesis, 500 examples an operation and phase: every answer of the REST API is as OpenAPI describes it, and none is a 5xx",
        ("tufline_testing.fuzz.rest", "500", SEED),
    ),
    *(
        Proof(
            f"simulate-{offset + 1}",
            "2,000 schedules of crashes, zombies, key changes and clock faults in virtual time: nothing is lost, repeated or reverted",
            ("tufline_testing.simulation", "2000", SEED),
            offset * 1_000_000,
        )
        for offset in range(2)
    ),
    *(
        Proof(
            f"soak-{offset + 1}",
            "100 faults under load on three brokers and OpenBao: every accepted change is live, and no client fails",
            ("tufline_testing.soak", "100", SEED),
            offset,
        )
        for offset in range(2)
    ),
    Proof(
        "fuzz-trust",
        "3,000 modified, correctly signed bootstraps and updates: each is refused, or accepted by python-tuf, tuf-js and go-tuf",
        ("tufline_testing.fuzz.trust", "3000", SEED, "--all-clients"),
    ),
    Proof(
        "transactions",
        "1,000 schedules of delayed, doubled and reordered requests on Kafka: no transaction tears, and each caller gets the true result",
        ("tufline_testing.proofs.transactions", "1000", SEED),
    ),
    Proof(
        "transactions-mistaken",
        "the same schedules tear transactions if a spent producer epoch is not renewed: they would detect the mistake",
        ("tufline_testing.proofs.transactions", "50", SEED, "--without-renewal"),
    ),
    Proof(
        "copy-matrix",
        "100,000 records copied in transactions, four times, while brokers and clients are bounced: each arrives once and in order",
        ("tufline_testing.proofs.copy_matrix", "100000", SEED),
    ),
    Proof(
        "copy-matrix-mistaken",
        "the same with progress in a separate transaction copies records twice: the proof would detect the mistake",
        ("tufline_testing.proofs.copy_matrix", "30000", SEED, "--progress-apart"),
    ),
    Proof("mutate", "a test detects each small mistake of tests/mutations", ("tufline_testing.proofs.mutate",)),
    Proof(
        "mutate-pure",
        "a share of all changes of the pure modules, chosen by the seed: a test detects each, or it is recorded with a reason",
        ("tufline_testing.proofs.mutate_pure", SEED),
    ),
)


def _git(*arguments: str) -> str:
    return subprocess.run([GIT, *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.rstrip()


def check_clean() -> str:
    """Check that the work tree is a commit.

    Returns:
        The commit, abbreviated.

    Raises:
        SystemExit: if the work tree has changes other than those of docs/proofs.md.
    """
    changed = [
        line for line in _git("status", "--porcelain", "--untracked-files=all").splitlines() if line[3:] != str(PAGE.relative_to(ROOT))
    ]
    if changed:
        sys.exit("The work tree has changes, so the result would belong to no commit: commit them first.\n" + "\n".join(changed))
    return _git("rev-parse", "--short=10", "HEAD")


def run(proof: Proof, seed: int) -> tuple[bool, str, float]:
    """Run a proof, and print its output.

    Args:
        proof: the proof to run.
        seed: seed of this run.

    Returns:
        Whether it passed, its last line, and its duration in seconds.
    """
    began, last = time.monotonic(), ""
    with subprocess.Popen(proof.command(seed), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            last = line.strip() or last
    return process.returncode == 0, last[:LONGEST_RESULT], time.monotonic() - began


def record(rows: dict[str, str]) -> None:
    """Write the page.

    Args:
        rows: name of a proof to its row.
    """
    PAGE.write_text(HEADER + "".join(f"{rows[proof.name]}\n" for proof in PROOFS if proof.name in rows))


def main() -> None:
    """Run the proofs named on the command line, or all."""
    seed, names = int(sys.argv[1]), sys.argv[2:]
    known = {proof.name: proof for proof in PROOFS}
    if unknown := sorted(set(names) - known.keys()):
        sys.exit(f"unknown proof {', '.join(unknown)}; the proofs are {', '.join(known)}")
    commit = check_clean()
    lines = PAGE.read_text().splitlines() if PAGE.exists() else []
    rows = {match["name"]: line for line in lines if (match := ROW.fullmatch(line)) and match["name"] in known}
    failed = []
    for proof in [known[name] for name in names] or PROOFS:
        print(f"== {proof.name}: {' '.join(proof.command(seed))}", flush=True)
        passed, last, seconds = run(proof, seed)
        date, result = f"{datetime.now(UTC):%Y-%m-%d}", last.replace("|", "/")
        rows[proof.name] = (
            f"| {proof.name} | {proof.shows} | {date} | {commit} | {seed + proof.seed_offset} | {seconds / 60:.0f} "
            f"| {'yes' if passed else '**no**'} | {result} |"
        )
        record(rows)
        failed += [] if passed else [proof.name]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()

"""Coverage-guided fuzzing of every decoder: it may raise only its documented errors, and must not take long.

`make fuzz SECONDS=600` for all of them, `SEED=…` for other bytes; names of decoders (testing/tufline_testing/fuzz/targets.py) as arguments
for some. It stops with an error at the first input that raises another error, takes longer than TIMEOUT_SECONDS, or needs more than
MEMORY_MEGABYTES. libFuzzer names the file with this input, and `--replay FILE` reads it again.
"""

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["tufline", "tufline_ingest", "tuf", "securesystemslib"]):
    from tufline_testing.fuzz.targets import TARGETS

LONGEST_INPUT: Final = 8192
TIMEOUT_SECONDS: Final = 20
MEMORY_MEGABYTES: Final = 2048

SHOWN_OUTPUT: Final = 10_000
"""How much of libFuzzer's output is printed after a finding, in characters."""

INSIDE: Final = "--inside"

HOSTILE: Final = (b'"\xff"', b"[" * 2000, b'{"a":' * 1000, b"9" * 5000, b'"\\ud800"', b"\x91" * 2000)
"""Fragments that random changes of examples rarely produce."""


def reader(names: list[str]) -> Callable[[bytes], None]:
    """Make the function that libFuzzer calls.

    Args:
        names: names of decoders; the first byte of an input chooses one of them.

    Returns:
        A function that raises only errors that the decoder does not document.
    """
    targets = [TARGETS[name] for name in names]

    def read(content: bytes) -> None:
        if not content:
            return
        target = targets[content[0] % len(targets)]
        with contextlib.suppress(*target.errors):
            target.read(content[1:])

    return read


def write_corpus(directory: Path, names: list[str]) -> None:
    """Write the examples that libFuzzer starts from.

    Args:
        directory: directory to write to.
        names: names of decoders.
    """
    for number, name in enumerate(names):
        for count, example in enumerate((*TARGETS[name].examples, *HOSTILE)):
            (directory / f"{number}-{count}").write_bytes(bytes([number]) + example)


def fuzz(names: list[str], asked: argparse.Namespace) -> None:
    """Fuzz until libFuzzer ends the process.

    Args:
        names: names of decoders.
        asked: the parsed command line.
    """
    with tempfile.TemporaryDirectory() as corpus:
        write_corpus(Path(corpus), names)
        limits = [f"-max_total_time={asked.seconds}", f"-runs={asked.runs}", f"-max_len={LONGEST_INPUT}", f"-timeout={TIMEOUT_SECONDS}"]
        places = [f"-rss_limit_mb={MEMORY_MEGABYTES}", f"-seed={asked.seed}", f"-artifact_prefix={asked.found}/", corpus]
        atheris.Setup([sys.argv[0], *limits, *places], reader(names))
        atheris.Fuzz()


def main() -> int:
    """Fuzz in a separate process, or read one input again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="name of a decoder; by default all")
    parser.add_argument("--seconds", type=int, default=0, help="how long to fuzz; 0 to stop only after --runs inputs")
    parser.add_argument("--runs", type=int, default=-1, help="number of inputs; -1 for no limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--found", type=Path, default=Path(), help="directory for inputs that raise an undocumented error")
    parser.add_argument("--replay", type=Path, help="file with an input to read again")
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    names = asked.names or list(TARGETS)
    if asked.replay:
        reader(names)(asked.replay.read_bytes())
        return 0
    if asked.inside:
        fuzz(names, asked)
    done = subprocess.run([sys.executable, *sys.argv, INSIDE], stderr=subprocess.PIPE, text=True, check=False)
    counted = re.search(r"Done (\d+) runs", done.stderr)
    if done.returncode or counted is None:
        print(done.stderr[-SHOWN_OUTPUT:], file=sys.stderr)
        print(f"seed {asked.seed}: an input raised an undocumented error or took too long: see above")
        return 1
    print(f"seed {asked.seed}: {counted[1]} inputs, {len(names)} decoders, nothing but documented errors")
    return 0


if __name__ == "__main__":
    sys.exit(main())

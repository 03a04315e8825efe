"""Drive every decoder with bytes that coverage guides: nothing but the documented errors may come out, and none may take long.

`make fuzz SECONDS=600` for all of them, `SEED=…` for other bytes; names of decoders (testing/tufline_testing/fuzz/targets.py) as arguments
for some. It ends with an error at the first input that raises another one, takes longer than TIMEOUT_SECONDS or more than MEMORY_MEGABYTES;
the input is then in the file that libFuzzer names, and `--replay FILE` reads it again.
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
"""How much of libFuzzer's output is shown where it found something, in characters."""

INSIDE: Final = "--inside"

HOSTILE: Final = (b'"\xff"', b"[" * 2000, b'{"a":' * 1000, b"9" * 5000, b'"\\ud800"', b"\x91" * 2000)
"""What random changes of examples seldom come to."""


def reader(names: list[str]) -> Callable[[bytes], None]:
    """Make what libFuzzer calls.

    Args:
        names: of decoders; the first byte of an input chooses one of them.

    Returns:
        A function that raises what is no documented error.
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
    """Write what the inputs are made from.

    Args:
        directory: to write to.
        names: of decoders.
    """
    for number, name in enumerate(names):
        for count, example in enumerate((*TARGETS[name].examples, *HOSTILE)):
            (directory / f"{number}-{count}").write_bytes(bytes([number]) + example)


def fuzz(names: list[str], asked: argparse.Namespace) -> None:
    """Fuzz, and end the process: libFuzzer does.

    Args:
        names: of decoders.
        asked: what the command line says.
    """
    with tempfile.TemporaryDirectory() as corpus:
        write_corpus(Path(corpus), names)
        limits = [f"-max_total_time={asked.seconds}", f"-runs={asked.runs}", f"-max_len={LONGEST_INPUT}", f"-timeout={TIMEOUT_SECONDS}"]
        places = [f"-rss_limit_mb={MEMORY_MEGABYTES}", f"-seed={asked.seed}", f"-artifact_prefix={asked.found}/", corpus]
        atheris.Setup([sys.argv[0], *limits, *places], reader(names))
        atheris.Fuzz()


def main() -> int:
    """Fuzz in a process of its own, or read one input again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a decoder; by default all")
    parser.add_argument("--seconds", type=int, default=0, help="for how long; 0 for as many inputs as --runs says")
    parser.add_argument("--runs", type=int, default=-1, help="how many inputs; -1 for no limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--found", type=Path, default=Path(), help="directory for an input that raises another error")
    parser.add_argument("--replay", type=Path, help="file with an input")
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
        print(f"seed {asked.seed}: an input raised what no decoder documents, or took too long: see above")
        return 1
    print(f"seed {asked.seed}: {counted[1]} inputs, {len(names)} decoders, nothing but documented errors")
    return 0


if __name__ == "__main__":
    sys.exit(main())

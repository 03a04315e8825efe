"""Checks what would be released: ``make release-check``. With ``TAG=v0.1.0`` it also compares the tag with the version.

It builds the sdist and the wheel into ``dist/release``, checks their files, installs each into an empty environment with the locked
dependencies, and runs the demo from the installed wheel. Things that are missing but not wrong, such as addresses, are reported as notes.
"""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any, Final

from tools.demo_environment import SetupError, wheels
from tufline import __version__
from tufline_testing.servers.parts import MissingPartError

ROOT: Final = Path(__file__).resolve().parent.parent
RELEASE: Final = ROOT / "dist" / "release"
HARNESS: Final = "tufline_testing"
"""The one package of the repository that a release does not hold."""

SDIST_FILES: Final = ("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "PKG-INFO")


class ReleaseError(Exception):
    """The distributions are not fit for a release; the message has one problem per line."""


def package_files(project: Mapping[str, Any], root: Path) -> set[str]:
    """List what a wheel must hold: every module, and every data file, of each package that import-linter knows.

    Args:
        project: the content of pyproject.toml.
        root: of the checkout.

    Returns:
        Paths as in a wheel, such as ``tufline/errors.py``.

    Raises:
        ReleaseError: if one of the packages is in none of the directories that hatch installs from.
    """
    files: set[str] = set()
    directories = [root / name for name in project["tool"]["hatch"]["build"]["dev-mode-dirs"]]
    for package in project["tool"]["importlinter"]["root_packages"]:
        if package == HARNESS:
            continue
        directory = next((directory for directory in directories if (directory / package).is_dir()), None)
        if directory is None:
            raise ReleaseError(f"{package} is in no directory of dev-mode-dirs")
        found = (file for file in (directory / package).rglob("*") if file.is_file() and "__pycache__" not in file.parts)
        files.update(file.relative_to(directory).as_posix() for file in found)
    return files


def wheel_problems(names: Iterable[str], expected: set[str]) -> list[str]:
    """Compare the files of a wheel with those that it must hold.

    Args:
        names: of the wheel's members.
        expected: the result of ``package_files``.

    Returns:
        One sentence for each package with missing files, and for each file that does not belong there.
    """
    held = {name for name in names if ".dist-info/" not in name}
    missing = sorted(expected - held)
    packages = sorted({name.partition("/")[0] for name in missing})
    lacking = [[name for name in missing if name.startswith(f"{package}/")] for package in packages]
    return [f"the wheel lacks {len(some)} files of {some[0].partition('/')[0]}, such as {some[0]}" for some in lacking] + [
        f"the wheel holds {name}, which belongs to none of the packages" for name in sorted(held - expected)
    ]


def sdist_problems(names: Iterable[str], expected: set[str]) -> list[str]:
    """Compare the files of an sdist with those that it must hold.

    Args:
        names: of the sdist's members, below its one directory.
        expected: the result of ``package_files``.

    Returns:
        One sentence for each kind of file that is missing.
    """
    held = {name.partition("/")[2] for name in names}
    problems = [f"the sdist lacks {name}" for name in SDIST_FILES if name not in held]
    ends = tuple(held)
    sources = {name for name in expected if not any(end == name or end.endswith(f"/{name}") for end in ends)}
    return problems + ([f"the sdist lacks {len(sources)} source files, such as {min(sources)}"] if sources else [])


def metadata_problems(metadata: Message, changelog: str, tag: str | None) -> list[str]:
    """Check the metadata of a distribution.

    Args:
        metadata: the content of METADATA or PKG-INFO.
        changelog: the content of CHANGELOG.md.
        tag: of the release, or None if there is none yet.

    Returns:
        One sentence for each problem.
    """
    version = metadata["Version"]
    problems = []
    if version != __version__:
        problems.append(f"the version is {version}, but tufline.__version__ is {__version__}")
    if tag is not None and tag != f"v{version}":
        problems.append(f"the tag {tag} is not v{version}: change tufline.__version__, or use another tag")
    if not re.search(rf"^## \[{re.escape(version)}\]", changelog, re.MULTILINE):
        problems.append(f"CHANGELOG.md has no section for {version}")
    if tag is not None and not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE):
        problems.append(f"CHANGELOG.md has no date for {version}")
    problems += [f"the metadata has no {name}" for name in ("Summary", "License-Expression", "Requires-Python") if not metadata[name]]
    if not metadata.get_payload():
        problems.append("the metadata has no description: README.md is empty or not included")
    return problems


def notes(metadata: Message) -> list[str]:
    """Report what a release should have but can't have before the project has addresses.

    Args:
        metadata: the content of METADATA or PKG-INFO.

    Returns:
        One sentence for each.
    """
    found = []
    if not metadata.get_all("Project-URL"):
        found.append("no addresses: [project.urls] is missing (source, documentation, changelog)")
    relative = re.findall(r"\]\((?![a-z]+:|#)([^)]+)\)", str(metadata.get_payload()))
    if relative:
        found.append(f"no addresses: {len(relative)} links of README.md work only inside the repository, such as {relative[0]}")
    return found


def _run(command: Sequence[str | Path], directory: Path = ROOT) -> str:
    done = subprocess.run([str(part) for part in command], cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"{' '.join(str(part) for part in command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _build() -> tuple[Path, Path]:
    shutil.rmtree(RELEASE, ignore_errors=True)
    _run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", RELEASE])
    (sdist,) = RELEASE.glob("*.tar.gz")
    (wheel,) = RELEASE.glob("*.whl")
    return sdist, wheel


def _look_into(sdist: Path, wheel: Path, tag: str | None) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    changelog = (ROOT / "CHANGELOG.md").read_text()
    expected = package_files(project, ROOT)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (name,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        metadata = BytesParser().parsebytes(archive.read(name))
    with tarfile.open(sdist) as tar:
        problems = sdist_problems(tar.getnames(), expected)
    problems += wheel_problems(names, expected) + metadata_problems(metadata, changelog, tag)
    for note in notes(metadata):
        print(f"note: {note}")
    if problems:
        raise ReleaseError("\n".join(problems))
    print(f"{wheel.name}: {len(names)} files; {sdist.name}: all sources")


def _install(distribution: Path, directory: Path) -> Path:
    """Install a distribution with its locked dependencies into an empty environment, and check that it is complete and starts."""
    shutil.rmtree(directory, ignore_errors=True)
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--require-hashes", "-r", ROOT / "requirements" / "tufline.lock"])
    if distribution.suffix == ".gz":
        _run([*pip, "--require-hashes", "-r", ROOT / "requirements" / "build.lock"])
    _run([*pip, "--no-deps", "--no-build-isolation", distribution])
    _run([python, "-m", "pip", "check", "--disable-pip-version-check"])
    version = _run([directory / "bin" / "tufline", "--version"], directory)
    if __version__ not in version:
        raise ReleaseError(f"tufline --version of {distribution.name} prints {version!r}")
    print(f"{distribution.name}: installed; {version.strip()}")
    return python


def main(arguments: Sequence[str]) -> int:
    """Build and check a release.

    Args:
        arguments: the tag of the release, or nothing.

    Returns:
        The exit code: 0 if it can be released.
    """
    tag = arguments[0] if arguments else None
    try:
        sdist, wheel = _build()
        _look_into(sdist, wheel, tag)
        _install(sdist, ROOT / "dist" / "from-sdist")
        python = _install(wheel, ROOT / "dist" / "from-wheel")
        # It is run as a file, not as a module, so that only tools/ of this checkout is on the path, and the code comes from the wheel.
        demo = subprocess.run([python, ROOT / "tools" / "demo.py", wheels(python)], cwd=ROOT / "dist", check=False)
        if demo.returncode:
            raise ReleaseError("the demo failed with the installed wheel")
    except (ReleaseError, SetupError, MissingPartError) as error:
        print(f"not fit for release: {error}", file=sys.stderr)
        return 1
    print(f"fit for release: {sdist.name}, {wheel.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""python-tuf's client, whatever version of it the interpreter has: a function, and a program like those in ``go_tuf`` and ``tuf_js``.

``running`` calls the function, and runs the program in an environment that has the oldest supported version. A job and its result have the
fields that ``running`` describes. Nothing else of this package is imported: that environment has only python-tuf.
"""

import hashlib
import inspect
import json
import shutil
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import urllib3
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater, UpdaterConfig

ERRORS = (RepositoryError, DownloadError, urllib3.exceptions.HTTPError, ValueError, OSError)


def run(job: Mapping[str, Any]) -> dict[str, Any]:
    """Refresh, then look up and download target paths.

    Args:
        job: the job.

    Returns:
        The result; errors of the client are part of it.
    """
    with warnings.catch_warnings():
        # Tests make errors of warnings, which would stop the client; its users do not even see this kind.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _run(job)


def _run(job: Mapping[str, Any]) -> dict[str, Any]:
    directory = Path(job["directory"])
    directory.mkdir(parents=True, exist_ok=True)
    try:
        updater = _open(job, directory)
        updater.refresh()
    except ERRORS as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"files": [_download(updater, directory, path) for path in job["paths"]]}


def _open(job: Mapping[str, Any], directory: Path) -> Updater:
    known = directory / "root.json"
    settings: dict[str, Any] = {
        "metadata_dir": str(directory),
        "metadata_base_url": job["metadata_url"],
        "target_dir": str(directory),
        "target_base_url": job["targets_url"],
        "config": UpdaterConfig(prefix_targets_with_hash=job["prefix_hash"]),
    }
    if "bootstrap" in inspect.signature(Updater).parameters:
        settings["bootstrap"] = None if known.exists() else Path(job["root"]).read_bytes()
    elif not known.exists():
        shutil.copy(job["root"], known)
    return Updater(**settings)


def _download(updater: Updater, directory: Path, path: str) -> dict[str, Any]:
    found = False
    try:
        info = updater.get_targetinfo(path)
        if info is None:
            return {"path": path}
        found = True
        saved = Path(updater.download_target(info, str(directory / "downloaded")))
    except ERRORS as error:
        return {"path": path, "found": found, "error": f"{type(error).__name__}: {error}"}
    return {"path": path, "found": found, "sha256": hashlib.sha256(saved.read_bytes()).hexdigest()}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)

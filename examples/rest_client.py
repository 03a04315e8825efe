"""Tell Tufline about every file below a directory, and wait until clients can see them: with the package tufline.

    python examples/rest_client.py http://127.0.0.1:8080 index

The path of a file below the directory becomes its target path. It is safe to run it again: a file that did not change has no effect.
"""

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

from tufline.client.rest import Client
from tufline.errors import TuflineError

SECONDS = 300.0  # how long to wait until the files are live


def describe(directory: Path, file: Path) -> dict[str, Any]:
    """Describe a file as the API wants it: target path, length and hashes."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    info = {"length": file.stat().st_size, "hashes": {"sha256": digest}}
    return {"path": file.relative_to(directory).as_posix(), "info": info}


def main(url: str, directory: Path) -> None:
    """Announce the files, and print what became of each."""
    artifacts = [describe(directory, file) for file in sorted(directory.rglob("*")) if file.is_file()]
    client = Client(url)
    # patient: send the request again while the server is not ready. The same file twice changes nothing.
    answer = client.request("POST", "/api/v1/artifacts/", {"artifacts": artifacts}, patient=True)
    # From here on the files are on the log. The task is done when the published metadata lists them.
    result = client.wait_for_task(answer["data"]["task_id"], deadline=time.monotonic() + SECONDS)
    for path in result["details"].get("added_artifacts", ()):
        print(f"live: {path}")
    if not result["status"]:
        sys.exit(f"{result['message']}: {result['error']}")
    if refused := result["details"].get("invalid_paths"):
        sys.exit(f"refused: {', '.join(refused)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except TuflineError as error:
        sys.exit(f"error: {error}")

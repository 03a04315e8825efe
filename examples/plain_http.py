"""Tell Tufline about every file below a directory, and wait until clients can see them: with Python's standard library alone.

    python examples/plain_http.py http://127.0.0.1:8080 index

It shows all that a program in another language has to do. For Python, rest_client.py is shorter.
"""

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

SECONDS = 300.0  # how long to wait until the files are live


def call(method: str, url: str, deadline: float, body: object = None) -> dict[str, Any]:
    """Send a request, again after each 503, and return the field ``data`` of the answer."""
    content = None if body is None else json.dumps(body).encode()
    while True:
        try:
            with urlopen(Request(url, content, {"Content-Type": "application/json"}, method=method), timeout=120) as response:
                data: dict[str, Any] = json.load(response)["data"]
                return data
        except HTTPError as error:
            with error:
                if error.code != 503 or time.monotonic() > deadline:
                    sys.exit(f"{url} answered {error.code}: {error.read().decode(errors='replace')}")
            time.sleep(float(error.headers.get("Retry-After", "1")))


def main(url: str, directory: Path) -> None:
    """Announce the files, and print what became of each."""
    deadline = time.monotonic() + SECONDS
    artifacts = []
    for file in (file for file in sorted(directory.rglob("*")) if file.is_file()):
        info = {"length": file.stat().st_size, "hashes": {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}}
        artifacts.append({"path": file.relative_to(directory).as_posix(), "info": info})
    task = call("POST", f"{url}/api/v1/artifacts/", deadline, {"artifacts": artifacts})["task_id"]
    # While a task is RUNNING, the answer comes when it is finished, or after some seconds. PENDING means not known: for a moment this
    # happens if another process answers than the one that accepted the request.
    while (data := call("GET", f"{url}/api/v1/task/?task_id={task}", deadline))["state"] not in {"SUCCESS", "ERRORED"}:
        if time.monotonic() > deadline:
            sys.exit(f"not live after {SECONDS:g} s: task {task} is {data['state']}")
        time.sleep(0.5)
    result = data["result"]
    for path in result["details"].get("added_artifacts", ()):
        print(f"live: {path}")
    if refused := result.get("error") or ", ".join(result["details"].get("invalid_paths", ())):
        sys.exit(f"refused: {refused}")


if __name__ == "__main__":
    try:
        main(sys.argv[1].rstrip("/"), Path(sys.argv[2]))
    except OSError as error:  # the server can't be reached; it is safe to send everything again
        sys.exit(f"error: {error}")

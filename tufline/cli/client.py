"""Speaking to a Tufline server over HTTP."""

import json
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import urllib3

from tufline.cli.exits import Exit, Failure

DEFAULT_URL: Final = "http://127.0.0.1:8080"
DEFAULT_TIMEOUT_SECONDS: Final = 600.0
"""How long to wait until something is live."""

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 120.0
FAILURES_IN_A_ROW: Final = 20
"""How often a request that failed is sent again, with growing pauses, before the server counts as gone."""

LONGEST_PAUSE_SECONDS: Final = 5.0

UNPROCESSABLE: Final = 422
UNAVAILABLE: Final = 503


class Client:
    """A server, and how to ask it."""

    def __init__(self, url: str, headers: Iterable[str] = ()) -> None:
        """Ask nothing yet.

        Args:
            url: of the server, without ``/api/v1``.
            headers: ``Name: value`` lines to send with each request.

        Raises:
            Failure: if a header is none.
        """
        self.url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        for header in headers:
            name, colon, value = header.partition(":")
            if not colon:
                raise Failure(f"{header!r} is no header", "write it as 'Name: value'", Exit.USAGE)
            self._headers[name.strip()] = value.strip()
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS), retries=False)

    def request(self, method: str, path: str, body: Any = None, *, patient: bool = False, accept_unavailable: bool = False) -> Any:
        """Send a request.

        Args:
            method: of HTTP.
            path: from ``/``.
            body: JSON; bytes are sent as they are.
            patient: send again while the server is not there or can't take it: only what may be done twice.
            accept_unavailable: take an answer of 503 for an answer.

        Returns:
            The JSON of the answer.

        Raises:
            Failure: if the server can't be reached, or refuses.
        """
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        pause = 0.1
        for failures in range(FAILURES_IN_A_ROW + 1):
            last = failures == FAILURES_IN_A_ROW or not patient
            try:
                response = self._pool.request(method, self.url + path, body=content, headers=self._headers)
            except urllib3.exceptions.HTTPError as error:
                if last:
                    raise Failure(
                        f"{self.url} can't be reached: {_reason(error)}", "is the server running? (tufline dev)", Exit.UNREACHABLE
                    ) from error
            else:
                if response.status < 400 or (accept_unavailable and response.status == UNAVAILABLE):  # noqa: PLR2004 (HTTP's border between success and error)
                    return response.json()
                if response.status != UNAVAILABLE or last:
                    raise _refused(self.url + path, response)
                pause = max(pause, float(response.headers.get("Retry-After", pause)))
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        raise AssertionError("the last attempt returns or raises")

    def wait_for_task(self, task_id: str, deadline: float, on_wait: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Wait until a task is finished.

        Args:
            task_id: its id.
            deadline: when to give up, on ``time.monotonic``.
            on_wait: called whenever it is not finished yet.

        Returns:
            RSTUF's ``result`` of the task.

        Raises:
            Failure: if it takes too long.
        """
        while True:
            data = self.request("GET", f"/api/v1/task/?task_id={task_id}", patient=True)["data"]
            if data.get("result") is not None:
                result: dict[str, Any] = data["result"]
                return result
            if time.monotonic() > deadline:
                raise Failure("it is accepted, but not live yet", "tufline status says what it waits for", Exit.TIMEOUT)
            on_wait()


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error).rsplit(">: ", 1)[-1]


def _refused(url: str, response: urllib3.BaseHTTPResponse) -> Failure:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.data[:200].decode(errors="replace")
    if isinstance(detail, dict):
        detail = " ".join(str(detail[key]) for key in ("message", "error") if key in detail)
    code = Exit.UNREACHABLE if response.status == UNAVAILABLE else Exit.FAILED
    return Failure(f"{url} answers {response.status}: {detail}", code=code)

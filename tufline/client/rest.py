"""A client of the REST API: it retries requests while the server is not ready, and waits for tasks."""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import urllib3

from tufline.errors import InvalidAddressError, NotLiveYetError, ServerError, ServerUnreachableError, UnknownTaskError

DEFAULT_URL: Final = "http://127.0.0.1:8080"
DEFAULT_TIMEOUT_SECONDS: Final = 600.0
"""How long to wait until a task's changes are live, by default."""

UNKNOWN_SECONDS: Final = 10.0
"""How long a task may be unknown before that is an error: the process that answers may be this far behind the one that accepted it."""

FINISHED: Final = frozenset({"SUCCESS", "ERRORED"})
"""The states of a finished task. A running task may have a result too, which reports its progress."""

PENDING_PAUSE_SECONDS: Final = 0.5

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 120.0
FAILURES_IN_A_ROW: Final = 20
"""How often a failed request is retried, with growing pauses, before the server counts as unreachable."""

LONGEST_PAUSE_SECONDS: Final = 5.0

HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""Valid names and values of HTTP headers (RFC 9110, section 5)."""

UNAVAILABLE: Final = 503


def check_url(url: str) -> str:
    """Check that a URL is a valid HTTP or HTTPS URL.

    Args:
        url: the URL of a server.

    Returns:
        The URL, without trailing slashes.

    Raises:
        InvalidAddressError: if it is not valid.
    """
    try:
        parts = urllib3.util.parse_url(url)
    except urllib3.exceptions.LocationParseError:
        parts = urllib3.util.Url()
    if parts.scheme not in {"http", "https"} or not parts.host:
        raise InvalidAddressError(f"{url!r} is not the URL of a server", advice=f"give a URL such as {DEFAULT_URL}")
    return url.rstrip("/")


def _parse_header(header: str) -> tuple[str, str]:
    name, colon, value = (part.strip() for part in header.partition(":"))
    if not colon or not HEADER_NAME.fullmatch(name):
        raise InvalidAddressError(f"{name!r} is not a valid header", advice="write it as 'Name: value'")
    if not HEADER_VALUE.fullmatch(value):  # it may be a secret, so the message does not repeat it
        raise InvalidAddressError(f"the value of {name!r} is not a valid header value", advice="use one line of ISO 8859-1 characters")
    return name, value


def reason_of(error: BaseException) -> str:
    """Return why a request failed.

    Args:
        error: from urllib3 or python-tuf, which wrap the original error.

    Returns:
        The original error's message, without the names of classes and connections.
    """
    while True:
        inner = next(
            (one for one in (getattr(error, "reason", None), error.__cause__, *error.args) if isinstance(one, BaseException)), None
        )
        if inner is None:
            return str(error) or type(error).__name__
        error = inner


class Client:
    """Sends requests to one server."""

    def __init__(self, url: str, headers: Iterable[str] = ()) -> None:
        """Start unconnected; the first request connects.

        Args:
            url: the server's URL, without ``/api/v1``.
            headers: ``Name: value`` lines to send with each request.

        Raises:
            InvalidAddressError: if the URL or a header is not valid.
        """
        self.url = check_url(url)
        self._headers = {"Content-Type": "application/json", **dict(map(_parse_header, headers))}
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS), retries=False)

    def request(self, method: str, path: str, body: Any = None, *, patient: bool = False, accept_unavailable: bool = False) -> Any:
        """Send a request.

        Args:
            method: the HTTP method.
            path: the path and query, starting with ``/``.
            body: a value to send as JSON, or bytes to send as they are.
            patient: retry while the server is unreachable or not ready. Only for requests that may be executed twice.
            accept_unavailable: return the body of a 503 response instead of raising an error.

        Returns:
            The decoded JSON of the response.

        Raises:
            ServerUnreachableError: if the server can't be reached, or is not ready.
            ServerError: if the server refuses the request.
        """
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        pause = 0.1
        for failures in range(FAILURES_IN_A_ROW + 1):
            last = failures == FAILURES_IN_A_ROW or not patient
            try:
                response = self._pool.request(method, self.url + path, body=content, headers=self._headers)
            except urllib3.exceptions.HTTPError as error:
                if last:
                    raise ServerUnreachableError(
                        f"{self.url} can't be reached: {reason_of(error)}", advice="is the server running? (tufline dev)"
                    ) from error
            else:
                if response.status < 400 or (accept_unavailable and response.status == UNAVAILABLE):  # noqa: PLR2004 (HTTP's errors start at 400)
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
            task_id: the task's id.
            deadline: when to give up, on the clock of ``time.monotonic``.
            on_wait: called each time the task is not finished yet.

        Returns:
            The task's ``result``, as RSTUF's API defines it.

        Raises:
            UnknownTaskError: if the server does not know the task.
            NotLiveYetError: if the task is not finished by the deadline.
            ServerError: if a request fails.
        """
        unknown_since: float | None = None
        while True:
            data = self._task(task_id)
            if data["state"] in FINISHED:
                result: dict[str, Any] = data["result"]
                return result
            now = time.monotonic()
            unknown_since = (unknown_since or now) if data["state"] == "PENDING" else None
            if unknown_since is not None:
                if now - unknown_since > UNKNOWN_SECONDS:
                    raise UnknownTaskError("the server does not (or no longer) know this task", advice="results are kept for seven days")
                time.sleep(PENDING_PAUSE_SECONDS)  # the server answers at once for an unknown task; only for a running one does it wait
            if now > deadline:
                raise NotLiveYetError("the task was accepted, but is not live yet", advice="tufline status shows what it is waiting for")
            on_wait()

    def _task(self, task_id: str, after: str = "") -> dict[str, Any]:
        page = f"&after={after}" if after else ""
        data: dict[str, Any] = self.request("GET", f"/api/v1/task/?task_id={task_id}{page}", patient=True)["data"]
        return data

    def refused_later(self, task_id: str, result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """List the changes of a bulk task that were accepted at first, but refused when they were applied to the metadata.

        Args:
            task_id: the task's id.
            result: the task's result from ``wait_for_task``.

        Yields:
            Path and reason of each, page by page. An empty path means that the server does not know which artifacts were refused, or how
            many.

        Raises:
            UnknownTaskError: if the server no longer knows the task.
            ServerError: if a request fails.
        """
        is_explained = result["status"]
        while True:
            details = result["details"]
            for one in details.get("refused_artifacts", ()):
                is_explained = True
                yield one["path"], one["reason"]
            if "after" not in details:
                if not is_explained:
                    yield "", result["error"]
                return
            data = self._task(task_id, details["after"])
            if data["state"] not in FINISHED:
                raise UnknownTaskError("the server no longer knows this task", advice="results are kept for seven days")
            result = data["result"]


def _refused(url: str, response: urllib3.BaseHTTPResponse) -> ServerError:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.data[:200].decode(errors="replace")
    if isinstance(detail, dict):
        detail = " ".join(str(detail[key]) for key in ("message", "error") if key in detail)
    kind = ServerUnreachableError if response.status == UNAVAILABLE else ServerError
    return kind(f"{url} answered {response.status}: {detail}")

"""A client of the REST API: it sends requests again while the server is not ready, and waits for tasks."""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import urllib3

from tufline.errors import InvalidAddressError, NotLiveYetError, ServerError, ServerUnreachableError, UnknownTaskError

DEFAULT_URL: Final = "http://127.0.0.1:8080"
DEFAULT_TIMEOUT_SECONDS: Final = 600.0
"""How long to wait until something is live."""

UNKNOWN_SECONDS: Final = 10.0
"""How long a task may be unknown: another process of the server may be that far behind."""

PENDING_PAUSE_SECONDS: Final = 0.5

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 120.0
FAILURES_IN_A_ROW: Final = 20
"""How often a request that failed is sent again, with growing pauses, before the server counts as gone."""

LONGEST_PAUSE_SECONDS: Final = 5.0

HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""What may be sent as a header (RFC 9110, section 5)."""

UNAVAILABLE: Final = 503


def check_url(url: str) -> str:
    """Check that a URL is one of HTTP.

    Args:
        url: to check.

    Returns:
        The URL, without slashes at its end.

    Raises:
        InvalidAddressError: if it is not.
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
    if not HEADER_VALUE.fullmatch(value):  # which may be a secret, so it is not shown
        raise InvalidAddressError(
            f"the value of {name!r} is not a valid header value", advice="it may have one line, of Latin letters (ISO 8859-1)"
        )
    return name, value


def reason_of(error: BaseException) -> str:
    """Say why a request failed.

    Args:
        error: of urllib3 or python-tuf, which wrap what happened.

    Returns:
        What happened, without the names of classes and connections.
    """
    while True:
        inner = next(
            (one for one in (getattr(error, "reason", None), error.__cause__, *error.args) if isinstance(one, BaseException)), None
        )
        if inner is None:
            return str(error) or type(error).__name__
        error = inner


class Client:
    """A server, and how to ask it."""

    def __init__(self, url: str, headers: Iterable[str] = ()) -> None:
        """Ask nothing yet.

        Args:
            url: of the server, without ``/api/v1``.
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
            method: of HTTP.
            path: from ``/``.
            body: JSON; bytes are sent as they are.
            patient: send again while the server is not there or can't take it: only what may be done twice.
            accept_unavailable: take an answer of 503 for an answer.

        Returns:
            The JSON of the answer.

        Raises:
            ServerUnreachableError: if the server can't be reached, or is not ready.
            ServerError: if it refuses.
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
            UnknownTaskError: if the server does not know the task.
            NotLiveYetError: if it takes too long.
            ServerError: if the server can't be asked.
        """
        unknown_since: float | None = None
        while True:
            data = self._task(task_id)
            if data.get("result") is not None:
                result: dict[str, Any] = data["result"]
                return result
            now = time.monotonic()
            unknown_since = (unknown_since or now) if data["state"] == "PENDING" else None
            if unknown_since is not None:
                if now - unknown_since > UNKNOWN_SECONDS:
                    raise UnknownTaskError("the server does not know this task, or not any more", advice="results are kept for seven days")
                time.sleep(PENDING_PAUSE_SECONDS)  # unlike that about a task under way, this answer is not held back
            if now > deadline:
                raise NotLiveYetError("it is accepted, but not live yet", advice="tufline status says what it waits for")
            on_wait()

    def _task(self, task_id: str, after: str = "") -> dict[str, Any]:
        page = f"&after={after}" if after else ""
        data: dict[str, Any] = self.request("GET", f"/api/v1/task/?task_id={task_id}{page}", patient=True)["data"]
        return data

    def refused_later(self, task_id: str, result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """List the changes of a bulk task that were accepted, and refused when they were to go into the metadata.

        Args:
            task_id: its id.
            result: of the task, as ``wait_for_task`` returned it.

        Yields:
            Path and reason of each, page by page. The path is empty where the server can't tell it, or how many there are.

        Raises:
            UnknownTaskError: if the server does not know the task any more.
            ServerError: if it can't be asked.
        """
        is_told = result["status"]
        while True:
            details = result["details"]
            for one in details.get("refused_artifacts", ()):
                is_told = True
                yield one["path"], one["reason"]
            if "after" not in details:
                if not is_told:
                    yield "", result["error"]
                return
            data = self._task(task_id, details["after"])
            if data.get("result") is None:
                raise UnknownTaskError("the server does not know this task any more", advice="results are kept for seven days")
            result = data["result"]


def _refused(url: str, response: urllib3.BaseHTTPResponse) -> ServerError:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.data[:200].decode(errors="replace")
    if isinstance(detail, dict):
        detail = " ".join(str(detail[key]) for key in ("message", "error") if key in detail)
    kind = ServerUnreachableError if response.status == UNAVAILABLE else ServerError
    return kind(f"{url} answers {response.status}: {detail}")

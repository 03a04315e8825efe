"""Answers: what is sent back, how every error becomes an answer that says what to do, and the log line of each request.

A mistake of the client is a 4xx with the reason; what is temporarily unavailable is a 503 with Retry-After; a 500 is a fault of Tufline,
and logged with its traceback. Every request, whether accepted or refused, is logged as ``ingest.request`` with its status.
"""

import asyncio
import math
from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web
from aiohttp.hdrs import ACCEPT_ENCODING, ALLOW
from aiohttp.typedefs import Handler

from tufline.decoding import shorten
from tufline.errors import BusError, InvalidInputError, PushbackError
from tufline_ingest import metrics
from tufline_ingest.errors import BrokenRequestError, IngestError, NotNowError, UnsupportedEncodingError
from tufline_ingest.rest.request_body import WINDOWS

PART_OF_IT: Final = "part of the request may be on the log; sending it again is safe"

SHOWN_DETAIL_LENGTH: Final = 1000
"""The longest reason in an answer, in characters. Parts of a request that a reason repeats are shortened before."""

_encoder = msgspec.json.Encoder()
_log = structlog.get_logger(__name__)


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Make an answer.

    Args:
        content: a value that msgspec can encode.
        status: of the answer.
        headers: headers in addition to the content type.

    Returns:
        The answer.
    """
    return web.Response(body=_encoder.encode(content), status=status, headers=headers, content_type="application/json")


def refusal(status: int, detail: Any, retry_after: float | None = None, headers: Mapping[str, str] | None = None) -> web.Response:
    """Make an answer that refuses a request.

    Args:
        status: of the answer.
        detail: a sentence, which is shortened if it is very long; or an object with a sentence.
        retry_after: when to try again, in seconds; None for never.
        headers: headers in addition to the content type.

    Returns:
        The answer.
    """
    when = {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}
    content = shorten(detail, SHOWN_DETAIL_LENGTH) if isinstance(detail, str) else detail
    return answer({"detail": content}, status, {**when, **(headers or {})})


def of_error(error: Exception) -> web.Response:  # noqa: PLR0911 (a table of errors and their answers)
    """Make the answer for an error.

    Args:
        error: the error that a handler raised.

    Returns:
        The answer.
    """
    match error:
        case NotNowError():
            return refusal(error.status, error.detail, error.retry_after)
        case UnsupportedEncodingError():
            return refusal(error.status, error.detail, headers={ACCEPT_ENCODING: ", ".join(WINDOWS)})
        case IngestError():
            return refusal(error.status, error.detail)
        case InvalidInputError():
            return refusal(422, str(error))
        case PushbackError():
            return refusal(503, f"{error}; {PART_OF_IT}", error.retry_after)
        case BusError():
            return refusal(503, f"{error}; {PART_OF_IT}", 1.0)
        case web.HTTPException():
            return _of_http(error)
        case web.RequestPayloadError():
            return of_error(BrokenRequestError(f"the body can't be read: {shorten(str(error))}"))
        case ConnectionError():
            return of_error(BrokenRequestError("the connection broke before the request was read"))
        case _:
            _log.exception("ingest.fault")
            return refusal(500, "an unexpected fault; it is in the log of the service")


def _of_http(error: web.HTTPException) -> web.Response:
    # aiohttp's own answer names the methods of the address.
    headers = {str(ALLOW): error.headers[ALLOW]} if ALLOW in error.headers else {}
    match error.status:
        case 404:
            detail = "there is nothing at this address; /api/v1/openapi.json lists all calls"
        case 405:
            method = shorten(error.method) if isinstance(error, web.HTTPMethodNotAllowed) else "this method"
            detail = f"this address does not take {method}: it takes {headers.get(ALLOW, 'others')}"
        case 413:
            detail = "the request is too large: send it in parts, or as lines to /api/v1/artifacts/bulk"
        case _:
            detail = error.reason
    return refusal(error.status, detail, headers=headers)


@web.middleware
async def errors_as_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every request, and log each one in one line.

    Args:
        request: from a client.
        handler: of its route.

    Returns:
        The answer.
    """
    began = perf_counter()
    try:
        response = await handler(request)
    except asyncio.CancelledError:
        raise
    except Exception as error:  # noqa: BLE001 (every error has an answer; what is unexpected is logged with its traceback)
        response = of_error(error)
    took = perf_counter() - began
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "unknown"
    metrics.requests.labels(request.method, route, response.status).observe(took)
    _log.info("ingest.request", method=request.method, path=request.path, status=response.status, ms=round(took * 1000, 1))
    return response

"""The log of a process: one line per event, formatted for people on a terminal, and as JSON anywhere else."""

import io
import logging
import sys
import textwrap
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from tufline.config.settings import LogConfig
from tufline.runtime import terminal_text


def _as_one_line(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape control characters in values, which may come from a client: a terminal would execute them, or they could forge an event."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = terminal_text.one_line(value)
    return event


def _show_traceback(out: TextIO, error: Any) -> None:
    """Write a traceback without the values of variables, which may be secrets, and with control characters escaped.

    It is indented, so that no line of a message looks like another event.
    """
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, error)
    out.write(textwrap.indent(terminal_text.lines(plain.getvalue()), "  "))


def configure_logging(config: LogConfig) -> None:
    """Set up structlog for the process. Warnings of other libraries are logged in the same format.

    Args:
        config: level and format.
    """
    console = config.format == "console" or (config.format == "auto" and sys.stderr.isatty())
    level = logging.getLevelNamesMapping()[config.level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    as_json = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    for_people = [_as_one_line, structlog.dev.ConsoleRenderer(exception_formatter=_show_traceback)]
    renderers: list[Any] = for_people if console else as_json
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    of_others = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=of_others))
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)

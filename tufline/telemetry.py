"""What a process says: one line an event, for people on a terminal, JSON anywhere else."""

import logging
import sys
from typing import Any

import structlog

from tufline.config import LogConfig


def configure_logging(config: LogConfig) -> None:
    """Set up structlog for the process; other libraries' warnings go the same way.

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
    renderers: list[Any] = [structlog.dev.ConsoleRenderer()] if console else as_json
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

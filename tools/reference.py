"""Generates the pages of ``docs/reference`` that repeat the code: ``make reference``.

The command line comes from click, the settings from pydantic, the errors from their classes, the metrics from what the services register,
the topics from the AsyncAPI document and the REST API from the OpenAPI document. The first line of each page says that it is generated; a
test compares the pages with the code.
"""

import importlib
import inspect
import types
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import click
from annotated_types import Ge, Gt, Le, Lt
from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from tools import channels
from tufline.config.kinds import Seconds, in_digits
from tufline.config.settings import ENV_DELIMITER, ENV_PREFIX, Config
from tufline.errors import TuflineError
from tufline_cli import main as command_line
from tufline_cli.exit_codes import MEANINGS
from tufline_ingest import routes

PAGES: Final = Path(__file__).resolve().parent.parent / "docs" / "reference"
GENERATED: Final = "<!-- Generated from the code by `make reference`: change the code, not this page. -->"
HELP_COLUMNS: Final = 100

SETTINGS_INTRODUCTION: Final = f"""A setting is a key of a section in `tufline.toml`, or an environment variable
`{ENV_PREFIX}SECTION{ENV_DELIMITER}NAME`: `bus.url` is `{ENV_PREFIX}BUS{ENV_DELIMITER}URL`. The command
line comes first, then the environment, then the file, then the default. `tufline config` prints what is
in force, and where each value comes from. Times are in seconds, sizes in bytes."""

ERRORS_INTRODUCTION: Final = """Every error that Tufline raises on purpose is a `TuflineError`; the number of dashes says how deep a
class stands below it. *Retriable*: the same call may succeed later without anybody changing anything.
*Status*: the HTTP status of the answer."""

TOPICS_INTRODUCTION: Final = """The log has these topics. On Kafka each has the prefix `kafka.prefix`; `tufline topics apply` makes them
with the settings below. `schemas/asyncapi.yaml` describes their records in full, `schemas/records.json`
has a JSON Schema of each."""

REST_INTRODUCTION: Final = """`schemas/openapi.json` has the schema of every request and answer; a server has the same document at
`/api/v1/openapi.json`. *Permission*: what a caller needs. Nothing checks it yet: put authentication in
front of the API."""

ERROR_MODULES: Final = ("tufline.errors", "tufline_ingest.errors", "tufline_signer.errors", "tufline_publisher.errors")
METRIC_MODULES: Final = ("tufline_ingest.metrics", "tufline_signer.metrics", "tufline_publisher.metrics", "tufline.runtime.connections")

RANGES: Final[dict[type, tuple[str, str]]] = {
    Ge: ("at least", "ge"),
    Gt: ("more than", "gt"),
    Le: ("at most", "le"),
    Lt: ("less than", "lt"),
}
NAMES: Final[dict[object, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "file",
    SecretStr: "secret",
}


def cell(text: str) -> str:
    """Put a text into a cell of a table.

    Args:
        text: of any number of lines.

    Returns:
        One line, without characters that would end the cell or start an HTML element.
    """
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Make a table.

    Args:
        head: of each column.
        rows: lists of cells, in Markdown.

    Returns:
        The table.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sentence(thing: object) -> str:
    """Return the first paragraph of a docstring.

    Args:
        thing: that has it.

    Returns:
        One line.
    """
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def _commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            sub = command.get_command(context, name)
            assert sub is not None
            yield from _commands(sub, click.Context(sub, info_name=name, parent=context, **sub.context_settings))


def command_line_page() -> str:
    """Make the page of the command line: the help of every command.

    Returns:
        The page.
    """
    context = click.Context(command_line, info_name="tufline", **{**command_line.context_settings, "terminal_width": HELP_COLUMNS})
    parts = ["# Command line", "Each section is what `--help` prints.", "## Exit codes"]
    parts.append(table(("code", "meaning"), ((str(int(code)), cell(meaning)) for code, meaning in MEANINGS.items())))
    for path, command, of in _commands(command_line, context):
        parts += [f"## {path}", f"```text\n{command.get_help(of)}\n```"]
    return "\n\n".join(parts)


def kind_of(annotation: Any) -> str:
    """Describe the type of a setting in words.

    Args:
        annotation: of its field.

    Returns:
        Markdown.
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind_of(parts[0])
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in {Union, types.UnionType}:
        return " or ".join("nothing" if part is types.NoneType else kind_of(part) for part in parts)
    if origin is tuple:
        return f"list of {kind_of(parts[0])}"
    return NAMES[annotation] if annotation in NAMES else getattr(annotation, "__name__", str(annotation))


def value_of(field: FieldInfo) -> str:
    """Describe the values of a setting in words, with unit and range.

    Args:
        field: of a section.

    Returns:
        Markdown.
    """
    kind, limits = kind_of(field.annotation), []
    for limit in field.metadata:
        if isinstance(limit, Seconds):
            kind = f"{kind} of seconds"
            limits += [f"at least {in_digits(limit.least)}", f"at most {in_digits(limit.most)}"]
        elif type(limit) in RANGES:
            words, name = RANGES[type(limit)]
            limits.append(f"{words} {getattr(limit, name)}")
    return f"{kind} ({', '.join(limits)})" if limits else kind


def _default(value: Any) -> str:
    if isinstance(value, SecretStr) or value in {None, ""}:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{', '.join(map(str, value)) if isinstance(value, tuple) else value}`"


def settings_page() -> str:
    """Make the page of the settings.

    Returns:
        The page.
    """
    parts = [
        "# Settings",
        SETTINGS_INTRODUCTION,
    ]
    for section, of in Config.model_fields.items():
        assert of.annotation is not None
        fields: dict[str, FieldInfo] = of.annotation.model_fields
        rows = [
            (f"`{section}.{name}`", value_of(field), _default(field.get_default()), cell(field.description or ""))
            for name, field in fields.items()
        ]
        parts += [f"## {section}", sentence(of.annotation), table(("setting", "value", "default", "meaning"), rows)]
    return "\n\n".join(parts)


def _errors(kind: type[TuflineError], depth: int = 0) -> Iterator[tuple[type[TuflineError], int]]:
    yield kind, depth
    # By module: which one was imported first depends on what else runs in the process.
    known = [sub for sub in kind.__subclasses__() if sub.__module__ in ERROR_MODULES]
    for sub in sorted(known, key=lambda one: ERROR_MODULES.index(one.__module__)):
        yield from _errors(sub, depth + 1)


def errors_page() -> str:
    """Make the page of the errors.

    Returns:
        The page.
    """
    for module in ERROR_MODULES:
        importlib.import_module(module)
    seen: dict[type[TuflineError], int] = {}
    for kind, depth in _errors(TuflineError):
        seen.setdefault(kind, depth)
    rows = []
    for kind, depth in seen.items():
        status = getattr(kind, "status", None)
        row = (f"{'- ' * depth}`{kind.__name__}`", f"`{kind.__module__}`", "yes" if kind.retriable else "no", str(status or ""))
        rows.append((*row, cell(sentence(kind))))
    return "\n\n".join(
        (
            "# Errors",
            ERRORS_INTRODUCTION,
            table(("error", "module", "retriable", "status", "meaning"), rows),
        )
    )


def metrics() -> list[MetricWrapperBase]:
    """List the metrics that the services register.

    Returns:
        The metrics, in the order of their modules.
    """
    modules = [importlib.import_module(name) for name in METRIC_MODULES]
    return [metric for module in modules for metric in vars(module).values() if isinstance(metric, MetricWrapperBase)]


def metrics_page() -> str:
    """Make the page of the metrics.

    Returns:
        The page.
    """
    rows = []
    for metric in metrics():
        (family,) = metric.describe()
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # noqa: SLF001 (there is no public attribute for it)
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append((f"`{name}`", family.type, labels, cell(family.documentation)))
    return "\n\n".join(
        (
            "# Metrics",
            "Every process answers `GET /metrics` in the format of Prometheus. `_bucket`, `_sum` and `_count` follow a histogram's name.",
            table(("name", "type", "labels", "meaning"), rows),
        )
    )


def topics_page() -> str:
    """Make the page of the topics.

    Returns:
        The page.
    """
    made = channels.make()["channels"]
    parts = [
        "# Topics",
        TOPICS_INTRODUCTION,
    ]
    rows = []
    for name, channel in channels.CHANNELS.items():
        who = (", ".join(channel.senders), ", ".join(channel.receivers))
        rows.append((f"[{name}](#{name})", *who, cell(channel.partitions)))
    parts.append(table(("topic", "written by", "read by", "partitions"), rows))
    for name, channel in channels.CHANNELS.items():
        settings = made[name]["bindings"]["kafka"]["topicConfiguration"]
        values = [(f"`{key}`", f"`{', '.join(value) if isinstance(value, list) else value}`") for key, value in settings.items()]
        parts += [
            f"## {name}",
            f"{made[name]['description']}",
            f"Records: {', '.join(f'`{message}`' for message in channel.messages)}. Key: {channel.key}",
            table(("setting on Kafka", "value"), values),
        ]
    return "\n\n".join(parts)


def rest_page() -> str:
    """Make the page of the REST API.

    Returns:
        The page.
    """
    described = routes.description()
    rows, parts = [], []
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            permissions = ", ".join(f"`{permission}`" for permission in operation.get("x-tufline-permissions", ()))
            rows.append((f"`{method.upper()} {path}`", cell(operation["summary"]), permissions))
            parameters = [
                (f"`{one['name']}`", one["in"], "yes" if one.get("required") else "no", cell(one.get("description", "")))
                for one in operation.get("parameters", ())
            ]
            if parameters:
                parts += [f"## {method.upper()} {path}", table(("parameter", "in", "required", "meaning"), parameters)]
    return "\n\n".join(
        (
            "# REST API",
            REST_INTRODUCTION,
            table(("call", "what it does", "permission"), rows),
            *parts,
        )
    )


def make_all() -> dict[str, str]:
    """Make every page.

    Returns:
        Name of the file in ``docs/reference`` to its content.
    """
    made = {
        "command-line.md": command_line_page(),
        "settings.md": settings_page(),
        "rest.md": rest_page(),
        "topics.md": topics_page(),
        "errors.md": errors_page(),
        "metrics.md": metrics_page(),
    }
    return {name: f"{GENERATED}\n\n{page}\n" for name, page in made.items()}


def main() -> None:
    """Write the pages."""
    for name, page in make_all().items():
        (PAGES / name).write_text(page)


if __name__ == "__main__":
    main()

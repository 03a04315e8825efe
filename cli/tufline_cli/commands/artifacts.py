"""``tufline add``, ``remove``, ``import`` and ``status``: submit artifacts to the server, and show its state."""

import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tufline.client.rest import Client
from tufline.errors import UnknownTaskError
from tufline.runtime import terminal_text
from tufline_cli.commands.journal import PREFIX, Journal, open_journal
from tufline_cli.commands.sources import SourceItem, check_source, describe_file, items
from tufline_cli.exit_codes import Exit, Failure
from tufline_cli.options import change_options, header_option, hold_option, url_option

CHUNK_LINES: Final = 20_000
"""How many artifacts are sent in one request of an import."""

PREPARED: Final = 2
"""How many requests of an import are prepared or in progress at once."""

SHOWN_REFUSALS: Final = 20
"""How many refused artifacts an import prints; it only counts the others."""

ALL_AGAIN: Final = "it is safe to send everything again: import with another journal (--journal FILE)"
"""The advice if it is unknown which artifacts are not live."""

LATE_SECONDS: Final = 10
"""Accepted records are usually live after a second or two; if one is older than this, something holds it up."""


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress bars on standard error.

    Yields:
        The bars, to add tasks to.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield bars


def finish(client: Client, task_id: str, timeout: float, *, wait: bool) -> dict[str, Any]:
    """Wait for a task, or print its id.

    Args:
        client: a client of the server that accepted the request.
        task_id: the id of the task.
        timeout: how long to wait, in seconds.
        wait: whether to wait.

    Returns:
        The details of the task's result; nothing if it did not wait.

    Raises:
        Failure: if the task failed.
    """
    if not wait:
        click.echo(f"accepted; task {task_id}")
        return {}
    result = client.wait_for_task(task_id, time.monotonic() + timeout)
    if not result["status"]:
        raise Failure(f"{result['message']}: {result['error']}")
    details: dict[str, Any] = result["details"]
    return details


def _parse_add(argument: str) -> dict[str, Any]:
    target_path, separator, file = argument.partition("=")
    path = Path(file if separator else argument)
    try:
        return describe_file(path, target_path)
    except OSError as error:
        raise Failure(
            f"{path} can't be read: {error.strerror}", "write PATH=FILE, or the path of a file below the current directory"
        ) from error


def _check_refused(details: dict[str, Any]) -> None:
    if refused := details.get("refused_artifacts"):
        reasons = "; ".join(f"{one['path']}: {one['reason']}" for one in refused)
        raise Failure(f"{len(refused)} were refused: {reasons}")
    if refused := details.get("invalid_paths"):  # of an older server
        raise Failure(f"{len(refused)} were refused: {', '.join(refused)}")


@click.command()
@click.argument("artifacts", nargs=-1, required=True, metavar="PATH[=FILE]...")
@hold_option
@change_options
def add(artifacts: tuple[str, ...], url: str, header: tuple[str, ...], timeout: float, wait: bool, hold: bool) -> None:
    """Add artifacts: files under their own relative paths, or PATH=FILE to use another path."""
    client = Client(url, header)
    body = {"artifacts": [_parse_add(argument) for argument in artifacts], "publish_artifacts": not hold}
    submitted = client.request("POST", "/api/v1/artifacts/", body, patient=True)["data"]
    details = finish(client, submitted["task_id"], timeout, wait=wait)
    if wait:
        click.echo(f"{len(details.get('added_artifacts', artifacts))} {'held until tufline publish' if hold else 'live'}")
        _check_refused(details)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@hold_option
@change_options
def remove(paths: tuple[str, ...], url: str, header: tuple[str, ...], timeout: float, wait: bool, hold: bool) -> None:
    """Remove artifacts by their paths."""
    client = Client(url, header)
    body = {"artifacts": list(paths), "publish_artifacts": not hold}
    submitted = client.request("POST", "/api/v1/artifacts/delete", body, patient=True)["data"]
    details = finish(client, submitted["task_id"], timeout, wait=wait)
    if wait:
        click.echo(f"{len(details.get('deleted_artifacts', paths))} {'removals held until tufline publish' if hold else 'removed'}")
        _check_refused(details)
        if missing := details.get("not_found_artifacts"):
            raise Failure(f"{len(missing)} were not found: {', '.join(missing)}")


class Import:
    """An import in progress."""

    def __init__(self, client: Client, bars: Progress, journal: Journal) -> None:
        """Start an import.

        Args:
            client: sends the requests.
            bars: shows the progress.
            journal: records what the server accepted; it may have tasks of an interrupted import.
        """
        self._client = client
        self._journal = journal
        self._earlier = list(journal.tasks)
        self._bars = bars
        self._sent_bar = bars.add_task("accepted", total=None)
        self._live_bar = bars.add_task("live", total=None)
        self.accepted = 0
        self.live = 0
        self.refused = 0
        self.unknown = 0
        self.unnamed = 0
        self.refusals: list[tuple[str, str]] = []

    def send_all(self, chunks: Iterable[Sequence[SourceItem]]) -> None:
        """Send artifacts in order, which matters if one is added and removed. While the server works, the next ones are read.

        Args:
            chunks: artifacts in chunks of at most ``CHUNK_LINES``.

        Raises:
            Failure: if the server can't be reached, or the journal can't be written.
        """
        under_way: deque[tuple[Sequence[SourceItem], Future[Any]]] = deque()
        with ThreadPoolExecutor(1) as sender:
            for chunk in chunks:
                if len(under_way) == PREPARED:
                    self._record_answer(*under_way.popleft())
                under_way.append((chunk, sender.submit(self._send, chunk)))
            while under_way:
                self._record_answer(*under_way.popleft())

    def _send(self, chunk: Sequence[SourceItem]) -> Any:
        body = b"\n".join(item.line for item in chunk)
        return self._client.request("POST", "/api/v1/artifacts/bulk", body, patient=True)["data"]

    def _record_answer(self, chunk: Sequence[SourceItem], sent: Future[Any]) -> None:
        data = sent.result()
        refused = {line["line"]: line["reason"] for line in data["refused_lines"]}
        self.refused += data["refused"]
        listed = len(chunk) if len(refused) == data["refused"] else max(refused)  # the answer lists only the first of many refusals
        for number, reason in itertools.islice(refused.items(), SHOWN_REFUSALS - len(self.refusals)):
            self.refusals.append((chunk[number - 1].line.decode(errors="replace")[:200], reason))
        if data["task_id"] is not None:
            self._journal.expect(data["task_id"], data["accepted"])
        self.accepted += data["accepted"]
        self._bars.update(self._sent_bar, completed=self.accepted)
        self._journal.add(item.mark for number, item in enumerate(chunk[:listed], 1) if number not in refused)

    def wait(self, timeout: float) -> None:
        """Wait until everything is live, including changes from an interrupted import, and print the changes that were refused meanwhile.

        Args:
            timeout: how long to wait, in seconds.

        Raises:
            Failure: if it takes longer.
        """
        self._bars.update(self._sent_bar, total=self.accepted)
        self._bars.update(self._live_bar, total=sum(self._journal.tasks.values()))
        deadline = time.monotonic() + timeout
        for task_id, count in list(self._journal.tasks.items()):
            refused = unnamed = 0

            def paths(task_id: str = task_id) -> Iterator[str]:
                nonlocal refused, unnamed
                result = self._client.wait_for_task(task_id, deadline)
                for path, reason in self._client.refused_later(task_id, result):
                    refused += 1
                    self._bars.console.print(
                        terminal_text.one_line(f"refused: {reason}: {path}"), markup=False, highlight=False, soft_wrap=True
                    )
                    if path:
                        yield path
                    else:  # the record is lost, and with it the paths and their number
                        unnamed += 1

            try:
                self._journal.settle(task_id, paths())
            except UnknownTaskError:
                self.unknown += count
                self._journal.settle(task_id, ())
            else:
                self.refused += refused
                self.unnamed += unnamed
                self.live += 0 if unnamed or task_id in self._earlier else count - refused
            self._bars.update(self._live_bar, advance=count)


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--journal",
    type=click.Path(path_type=Path, dir_okay=False),
    show_default=f"{PREFIX}… in the current directory, one for each source and server",
    help="File that records what was accepted, to resume after an interruption; it is removed at the end.",
)
@change_options
def import_(source: Path, journal: Path | None, url: str, header: tuple[str, ...], timeout: float, wait: bool) -> None:
    """Add all artifacts of SOURCE.

    SOURCE is a directory (every file under its relative path), a .csv file with the columns path, length and sha256, or an .ndjson file
    with one artifact per line, as POST /api/v1/artifacts/bulk accepts it. Run an interrupted import again to resume it; it also sends
    what has changed in SOURCE since then. Import journals in SOURCE are skipped.
    """
    check_source(source)
    client = Client(url, header)
    log = client.request("GET", "/api/v1/status")["log"]
    with open_journal(journal, source, log) as remembered:
        with progress() as bars:
            under_way = Import(client, bars, remembered)
            all_items = items(source, remembered)
            under_way.send_all(iter(lambda: list(itertools.islice(all_items, CHUNK_LINES)), []))
            if wait:
                under_way.wait(timeout)
        before = f", {remembered.skipped} had been accepted before" if remembered.skipped else ""
        done = f"{under_way.live} live" if wait else f"{under_way.accepted} accepted"
        click.echo(f"{done}{before}, {under_way.refused} refused")
        if under_way.refused:
            for line, reason in under_way.refusals:
                click.echo(terminal_text.one_line(f"refused: {reason}: {line}"), err=True)
            hint = ALL_AGAIN if under_way.unnamed else "fix them, or make room for them, and import again: accepted artifacts are skipped"
            raise Failure(f"{under_way.refused} artifacts were refused", hint)
        if under_way.unknown:
            raise Failure(f"{under_way.unknown} artifacts were accepted too long ago to tell whether any was refused", ALL_AGAIN)
        remembered.done()


@click.command()
@url_option
@header_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(url: str, header: tuple[str, ...], as_json: bool) -> None:
    """Show what is live, what is pending, when roles expire, and what is wrong."""
    answer = Client(url, header).request("GET", "/api/v1/status")
    console = Console()
    if as_json:
        console.print_json(data=answer)
    else:
        table = Table(show_header=False, box=None)
        table.add_row("repository", answer["bootstrap"] or "none yet: tufline init")
        table.add_row("bins", str(answer["number_of_bins"] or "-"))
        if custom := answer.get("number_of_custom_roles"):
            table.add_row("custom roles", str(custom))
        for algorithm, clients in (answer.get("unreadable_hashes") or {}).items():
            table.add_row(f"{algorithm} hashes", f"accepted, but not read by {' and '.join(clients)}")
        table.add_row("live", f"snapshot {answer['snapshot']}, timestamp {answer['timestamp']}")
        table.add_row("backlog", _describe_backlog(answer))
        if answer.get("held"):
            table.add_row("held", f"{answer['held']} changes, until tufline publish")
        for role, moment in sorted(answer["expires"].items()):
            table.add_row(f"{role} expires", moment)
        for part, reason in answer["problems"].items():
            colour = "yellow" if part in answer["warnings"] else "red"
            table.add_row(f"[{colour}]{part}[/{colour}]", reason)
        console.print(table)
    if answer["problems"].keys() - answer["warnings"] or answer["bootstrap"] != "finished":
        raise _not_ready(answer)


def _describe_backlog(answer: Mapping[str, Any]) -> str:
    count, seconds = answer["backlog"], answer["waiting_seconds"]
    if not count:
        return "nothing waits"
    waits = f"{count} records accepted and not live yet; the oldest has waited {seconds} s"
    # The server only knows its own process; if that is all of Tufline, its problems tell the reason.
    if seconds < LATE_SECONDS or answer["problems"]:
        return waits
    return f"{waits}: unless the backlog is large, /readyz of signer and publisher shows what they are waiting for"


def _not_ready(answer: Mapping[str, Any]) -> Failure:
    if keeping := {part: reason for part, reason in answer["problems"].items() if part not in answer["warnings"]}:
        parts = "; ".join(f"{part}: {reason}" for part, reason in keeping.items())
        return Failure(f"not everything is ready: {parts}", code=Exit.UNREACHABLE)
    if answer["bootstrap"] is None:
        return Failure(
            "there is no repository yet", "tufline init makes its bootstrap.json; POST that to /api/v1/bootstrap/", Exit.UNREACHABLE
        )
    return Failure(
        "the repository is not published yet", "/readyz of signer and publisher shows what they are waiting for", Exit.UNREACHABLE
    )

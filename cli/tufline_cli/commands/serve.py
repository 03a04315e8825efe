"""``tufline dev`` and ``tufline serve`` run all services in one process; ``tufline run`` runs one service."""

import asyncio
import json
from collections.abc import Collection
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import aiohttp
import click

from tufline.client.rest import Client
from tufline.config.kinds import EMBEDDED
from tufline.config.loading import load
from tufline.config.settings import Config
from tufline.errors import ConfigError
from tufline.runtime.telemetry import configure_logging
from tufline.trust import ceremony
from tufline_cli import process
from tufline_cli.commands.bootstrapping import BOOTSTRAP_PATH
from tufline_cli.exit_codes import Failure
from tufline_cli.options import config_option
from tufline_cli.signing_steps import waiting
from tufline_cli.trust_options import scheme_option

READY_FILE = "ready.json"

SIGNING: Final = "signing"
"""The state of a bootstrap that more keys must sign."""

FINISHED: Final = "finished"
"""The state of a bootstrap whose metadata is published, so that changes are accepted."""

BOOTSTRAP_PAUSE_SECONDS: Final = 0.2
"""How long to wait before asking for the state of the bootstrap again, or sending it again, in seconds."""


def _run(config: Config, on_ready: process.OnReady, services: Collection[str] = process.SERVICES) -> None:
    configure_logging(config.log)
    asyncio.run(process.run(config, on_ready, services))


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("tufline-data"),
    show_default=True,
    help="Directory for all data.",
)
@click.option(
    "--bins", type=int, default=1024, show_default=True, help="Number of hash bins of a new repository: a power of two, 2 to 16384."
)
@click.option(
    "--mode",
    type=click.Choice([ceremony.PEP458, ceremony.RSTUF]),
    default=ceremony.PEP458,
    show_default=True,
    help="Who signs targets: pep458 offline keys, rstuf the online key.",
)
@scheme_option
@click.option("--port", type=int, help="Port of the REST API; 0 for any free one.")
@click.option("--web-port", type=int, help="Port of the origin; 0 for any free one.")
@click.option("--targets", type=click.Path(path_type=Path, file_okay=False, exists=True), help="Directory of the repository's own files.")
@config_option
def dev(
    data: Path, bins: int, mode: str, scheme: str, port: int | None, web_port: int | None, targets: Path | None, path: Path | None
) -> None:
    """Run everything in one process, without any set-up, to try it out.

    The first start in a data directory makes test keys (root and targets: 2 of 3) and an online key in a file, and bootstraps the
    repository with them. DATA/ready.json has all URLs. If the bootstrap waits for signatures, the output names them.
    """
    overrides: dict[str, Any] = {
        **process.settings_of_data(data),
        "ingest.port": port,
        "web.port": web_port,
        "web.targets": targets,
    }
    config, _ = load(path, overrides)
    keys, ready = data / "keys", data / READY_FILE
    if not (keys / "bootstrap.json").exists():
        if (data / "log.db").exists():
            raise ConfigError(
                f"{data} has a log but no {keys / 'bootstrap.json'}: it was not made by tufline dev; use tufline serve for it"
            )
        try:
            ceremony.write(ceremony.hold(ceremony.Plan(bins, mode, scheme)), keys, None)  # trial keys
        except (ValueError, FileExistsError) as error:
            raise ConfigError(f"the repository can't be bootstrapped: {error}") from error
    ready.unlink(missing_ok=True)

    async def on_ready(api: str, origin: str) -> None:
        state = await _bootstrap(api, (keys / "bootstrap.json").read_bytes())
        urls = {"api": api, "metadata": f"{origin}/metadata/", "targets": f"{origin}/targets/", "root": str((keys / "root.json").resolve())}
        temporary = ready.with_suffix(".tmp")
        temporary.write_text(json.dumps(urls) + "\n")
        temporary.rename(ready)
        click.echo(f"REST API   {api}/api/v1/")
        click.echo(f"metadata   {urls['metadata']}")
        if targets is not None:
            click.echo(f"targets    {urls['targets']}")
        click.echo(f"root.json  {urls['root']}")
        if state == SIGNING:
            await asyncio.to_thread(_print_waiting, Client(api))
        click.echo(f"{'running' if state == SIGNING else 'ready'}; stop with Ctrl-C")

    _run(config, on_ready)
    ready.unlink(missing_ok=True)


async def _bootstrap(api: str, payload: bytes) -> str:
    """Bootstrap the repository, if this has not happened, and wait until its metadata is published, or only signatures are missing.

    Returns:
        The bootstrap's state, ``finished`` or ``SIGNING``.
    """
    url, headers = f"{api}{BOOTSTRAP_PATH}", {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        while True:
            async with session.get(url) as response:
                status, answer = response.status, await response.json()
            state = answer["data"].get("state") if status == HTTPStatus.OK else None
            if state in {FINISHED, SIGNING}:
                return str(state)
            if status == HTTPStatus.OK and state is None:
                async with session.post(url, data=payload, headers=headers) as response:
                    status, answer = response.status, await response.json()
            if status not in {HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.SERVICE_UNAVAILABLE}:
                raise Failure(f"the repository can't be bootstrapped: {answer['detail']}")
            await asyncio.sleep(0 if status == HTTPStatus.ACCEPTED else BOOTSTRAP_PAUSE_SECONDS)


def _print_waiting(client: Client) -> None:
    click.echo("the bootstrap waits for signatures:")
    for role, signatures in waiting(client).missing.items():
        click.echo(f"  {role}: {signatures}")
    click.echo(f"give them with: tufline sign --url {client.url} --key KEY")


@click.command()
@config_option
def serve(path: Path | None) -> None:
    """Run everything in one process for production, with your own keys and directories.

    All settings come from the configuration (see tufline config). Bootstrap a repository with tufline init, and put its online key into
    signer.key_dir.
    """
    config, _ = load(path)

    async def on_ready(api: str, origin: str) -> None:
        click.echo(f"REST API {api}/api/v1/, metadata {origin}/metadata/")

    _run(config, on_ready)


@click.command()
@click.argument("service", type=click.Choice(process.SERVICES))
@config_option
def run(service: str, path: Path | None) -> None:
    """Run one service in its own process, on Kafka. Each service can run in any number of processes.

    On SIGTERM it finishes its work in progress and releases its partitions. Ingest reports its health at its own address, the other
    services at the address in section ops.
    """
    config, _ = load(path)
    if config.bus.url.startswith(EMBEDDED):
        raise ConfigError(f"bus.url = {config.bus.url!r} is for one process: use tufline serve, or set it to 'kafka:<host>:<port>,…'")

    async def on_ready(url: str, origin: str) -> None:
        click.echo(f"{service} {url}{f', metadata {origin}/metadata/' if origin else ''}")

    _run(config, on_ready, [service])

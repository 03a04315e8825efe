"""``tufline delegations``: what each command sends, and what it prints."""

import asyncio
import json
from pathlib import Path
from subprocess import CompletedProcess

from securesystemslib.signer import CryptoSigner

from tufline.metadata.key_uris import ONLINE_KEY_URI
from tufline.metadata.keyids import keyid_of
from tufline_cli.exit_codes import Exit
from tufline_testing.delegating import delegating, settle
from tufline_testing.rest import Rest
from tufline_testing.server import run_tufline


async def run(server: Rest, path: Path, *arguments: str) -> CompletedProcess[str]:
    """Run a command against a server."""
    return await asyncio.to_thread(run_tufline, "delegations", *arguments, "--url", server.url, cwd=path, env={"COLUMNS": "200"})


async def test_roles_are_added_changed_listed_and_deleted(tmp_path: Path) -> None:
    """An update changes what its options name, and leaves the rest."""
    key = CryptoSigner.generate_ed25519().public_key.to_dict() | {ONLINE_KEY_URI: "fn:dev"}
    (tmp_path / "key.json").write_text(json.dumps({keyid_of(key): key}))
    async with delegating(tmp_path) as (server, _):
        assert "every artifact is in a bin" in (await run(server, tmp_path, "list")).stdout
        options = ("--path", "dev/*", "--path", "doc/*", "--terminating", "--key", "key.json", "--expires", "3")
        added = await run(server, tmp_path, "add", "dev", *options, "--no-wait")
        assert (added.returncode, "dev is accepted" in added.stdout) == (Exit.OK, True), added.stderr
        listed = await run(server, tmp_path, "list")
        assert all(text in listed.stdout for text in ("dev/*, doc/* (terminating)", "1 of 1", "not published yet")), listed.stdout
        assert (await run(server, tmp_path, "update", "dev", "--path", "dev/*", "--not-terminating", "--no-wait")).returncode == Exit.OK
        (dev,) = json.loads((await run(server, tmp_path, "list", "--json")).stdout)["roles"]
        assert (dev["paths"], dev["terminating"], dev["keyids"], dev["x-rstuf-expire-policy"]) == (["dev/*"], False, [keyid_of(key)], 3)
        deleting = asyncio.create_task(run(server, tmp_path, "delete", "dev"))
        while (await server.ask("GET", "/api/v1/delegations"))[1]["data"]["roles"]:
            await asyncio.sleep(0.05)
        await settle(server.bus)
        deleted = await deleting
        assert (deleted.returncode, deleted.stdout) == (Exit.OK, "dev: deleted\n"), deleted.stderr


async def test_mistakes_have_a_reason(tmp_path: Path) -> None:
    """What is missing or unknown is named, with what to do."""
    (tmp_path / "key.json").write_text("{}")
    async with delegating(tmp_path) as (server, _):
        for arguments, code, says in (
            (("add", "dev"), Exit.USAGE, "--path 'dev/*'"),
            (("add", "1.root", "--path", "a"), Exit.FAILED, "can't be the name of a file"),
            (("add", "dev", "--path", "a", "--key", "key.json"), Exit.FAILED, "key.json: expected one key"),
            (("update", "dev", "--path", "a"), Exit.FAILED, "there is no role dev"),
            (("delete", "dev"), Exit.FAILED, "there is no role dev"),
        ):
            failed = await run(server, tmp_path, *arguments)
            assert (failed.returncode, says in failed.stderr) == (code, True), (arguments, failed.stderr)

"""All services, with their online key in a real OpenBao, through all the failures that servers have."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from hvac.exceptions import InvalidRequest

from tufline.clock import utc_now
from tufline.config.settings import VaultConfig
from tufline.keys.vault import provision
from tufline.metadata.key_uris import VaultKeyName
from tufline_testing.log import Published, eventually
from tufline_testing.rest import PARTITIONS, Rest, artifact, bootstrapped
from tufline_testing.servers.tcp_proxy import Proxy, proxy
from tufline_testing.servers.vault_server import MOUNT, VaultServer
from tufline_testing.vaults import make_key

pytestmark = pytest.mark.slow

TIMEOUT_SECONDS = 1.0


@dataclass
class SignerVault:
    """A server with the signer's key, a proxy to it, and the signer's login there."""

    server: VaultServer
    way: Proxy
    name: VaultKeyName
    secret_file: Path
    config: VaultConfig

    def change_key(self, **settings: Any) -> None:
        self.server.admin.secrets.transit.update_key_configuration(self.name.key, mount_point=MOUNT, **settings)

    def permit(self, policy: str) -> None:
        self.server.admin.sys.create_or_update_policy("signer", policy)

    def signer_tokens(self) -> list[str]:
        """Return the accessors of the signer's tokens that are still valid."""
        admin = self.server.admin
        found: list[str] = []
        for accessor in admin.list("auth/token/accessors")["data"]["keys"]:
            # A token may expire between the list and this call: then it is "invalid".
            with suppress(InvalidRequest):
                if admin.lookup_token(accessor, accessor=True)["data"]["display_name"] == "approle":
                    found.append(accessor)
        return found

    def revoke_tokens(self) -> None:
        for accessor in self.signer_tokens():
            with suppress(InvalidRequest):
                self.server.admin.auth.token.revoke_accessor(accessor)

    def refuse_login(self) -> None:
        self.server.admin.delete("auth/approle/role/signer")
        self.revoke_tokens()

    def permit_login(self) -> None:
        role, secret_id = self.server.make_role(provision.policy([self.name]))
        self.server.admin.auth.approle.update_role_id("signer", self.config.role)
        assert role
        self.secret_file.write_text(secret_id)

    def break_audit(self) -> None:
        # Vault refuses every request that it can't record in its audit log, for example on a full disk.
        self.server.audit_log.rename(self.server.directory / "before.log")
        self.server.audit_log.mkdir()
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGHUP)

    def mend_audit(self) -> None:
        self.server.audit_log.rmdir()
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGHUP)

    def limit(self) -> None:
        self.server.admin.write_data("sys/quotas/rate-limit/few", data={"rate": 0.001, "path": f"{MOUNT}/", "interval": "1000s"})

    def unlimit(self) -> None:
        self.server.admin.delete("sys/quotas/rate-limit/few")

    def mend_way(self) -> None:
        self.way.cuts = False
        self.way.answers.set()

    def rotate_away(self) -> None:
        self.server.admin.secrets.transit.rotate_key(self.name.key, mount_point=MOUNT)
        self.change_key(min_encryption_version=2)


@asynccontextmanager
async def repository_with_vault(server: VaultServer, path: Path, **settings: Any) -> AsyncIterator[tuple[SignerVault, Rest]]:
    """Run all services with one key in Vault for everything, once they have published their repository."""
    name, public = await make_key(server)
    role, secret_id = server.make_role(provision.policy([name]), ttl=settings.pop("ttl", "1h"))
    secret_file = path / "secret_id"
    secret_file.write_text(secret_id)
    async with proxy(server.port) as way:
        config = VaultConfig.model_validate(
            {"address": way.url, "role": role, "secret_id_file": secret_file, "timeout": TIMEOUT_SECONDS, "retry": 1.0} | settings
        )
        online = dict.fromkeys(("timestamp", "snapshot", "bins"), public)
        async with bootstrapped(path, online=online, vault=config) as running:
            yield SignerVault(server, way, name, secret_file, config), running


async def add(running: Rest, path: str, length: int = 1) -> str:
    """Announce an artifact, and return its task."""
    status, answer = await running.ask("POST", "/api/v1/artifacts/", {"artifacts": [artifact(path, length)]})
    assert status == 202, answer
    return str(answer["data"]["task_id"])


async def is_live(running: Rest, tasks: list[str]) -> bool:
    """Wait until tasks are done, and return whether a client then accepts the repository."""
    for task in tasks:
        assert (await running.task(task))["state"] == "SUCCESS"
    return bool((await Published.read(running.bus)).verify(utc_now()))


FAILURES: dict[str, tuple[Callable[[SignerVault], None], Callable[[SignerVault], None], str]] = {
    "killed": (lambda it: it.server.kill(), lambda it: it.server.start(), "can't be reached"),
    "sealed": (lambda it: it.server.seal(), lambda it: it.server.unseal(), "is sealed: unseal it"),
    "slow": (lambda it: it.way.answers.clear(), SignerVault.mend_way, "does not answer within 1 s"),
    "cut": (lambda it: it.way.cut(), SignerVault.mend_way, "can't be reached, or closes the connection"),
    "403": (
        lambda it: it.permit(provision.SELF_RENEWAL),
        lambda it: it.permit(provision.policy([it.name])),
        "does not permit to ",
    ),
    "429": (SignerVault.limit, SignerVault.unlimit, r"rejects calls for now, as there were too many (429)"),
    "500": (SignerVault.break_audit, SignerVault.mend_audit, "failed to"),
    "login refused": (SignerVault.refuse_login, SignerVault.permit_login, "refuses the login by approle"),
    "version gone": (SignerVault.rotate_away, lambda it: it.change_key(min_encryption_version=1), "min_encryption_version is 2"),
}


@pytest.mark.parametrize(("break_it", "mend", "reason"), FAILURES.values(), ids=FAILURES)
async def test_a_failure_is_reported_and_survived(
    own_vault: VaultServer,
    tmp_path: Path,
    break_it: Callable[[SignerVault], None],
    mend: Callable[[SignerVault], None],
    reason: str,
) -> None:
    """While Vault fails, ingest still accepts, and readiness and log report why in one sentence; then everything becomes live."""
    with structlog.testing.capture_logs() as said:
        async with repository_with_vault(own_vault, tmp_path) as (it, running):
            assert await is_live(running, [await add(running, f"before/{number}") for number in range(10)])
            assert (await running.ask("GET", "/readyz"))[0] == 200
            await asyncio.to_thread(break_it, it)
            tasks = [await add(running, f"during/{number}") for number in range(10)]
            part = f"signer.key.{it.name.uri}"

            async def is_said() -> bool:
                status, answer = await running.ask("GET", "/readyz")
                sentence = answer["parts"].get(part, "")
                return status == 503 and reason in sentence and "\n" not in sentence

            await eventually(is_said)
            tasks += [await add(running, f"during/{number}", 2) for number in range(5)]
            await asyncio.to_thread(mend, it)
            assert await is_live(running, tasks)
            await eventually(lambda: asyncio.sleep(0, running.health.ready))
            seen = (await Published.read(running.bus)).verify(utc_now())
    lengths = {path: entry["length"] for path, entry in seen.items()}
    assert lengths == {f"before/{n}": 1 for n in range(10)} | {f"during/{n}": 2 if n < 5 else 1 for n in range(10)}
    assert any(reason in str(entry.get("error")) for entry in said)
    assert not [entry for entry in said if it.secret_file.read_text() in str(entry)]


async def test_revoked_tokens_stop_nothing(own_vault: VaultServer, tmp_path: Path) -> None:
    """When the signer's token is revoked, it logs in again, and no partition restarts."""
    with structlog.testing.capture_logs() as said:
        async with repository_with_vault(own_vault, tmp_path, timeout=20.0, retry=20.0) as (it, running):
            assert await is_live(running, [await add(running, "a")])
            await until_login_may_be_new()
            await asyncio.to_thread(it.revoke_tokens)
            assert await is_live(running, [await add(running, f"p/{number}") for number in range(2 * PARTITIONS)])
    assert [entry.get("auth") for entry in said if entry["event"] == "vault.logged_in"].count("approle") == 2
    assert not [entry for entry in said if entry["event"] == "partition.failed"]


async def until_login_may_be_new() -> None:
    """Wait until a refusal may count as an expired token again."""
    from tufline.keys.vault.session import LOGIN_INTERVAL_SECONDS  # noqa: PLC0415

    await asyncio.sleep(LOGIN_INTERVAL_SECONDS)


async def test_token_that_ended_while_vault_was_away(own_vault: VaultServer, tmp_path: Path) -> None:
    """A token that could not be renewed in time is replaced by a new login as soon as Vault is available again."""
    async with repository_with_vault(own_vault, tmp_path, ttl="2s") as (it, running):
        assert await is_live(running, [await add(running, "a")])
        it.way.cut()
        task = await add(running, "b")

        await eventually(lambda: asyncio.to_thread(lambda: not it.signer_tokens()))
        it.mend_way()
        assert await is_live(running, [task])


async def test_nothing_is_signed_with_another_key_while_vault_is_unavailable(own_vault: VaultServer, tmp_path: Path) -> None:
    """While Vault is unavailable nothing is signed: no new metadata appears, with any key."""
    async with repository_with_vault(own_vault, tmp_path) as (it, running):
        assert await is_live(running, [await add(running, "a")])
        before = (await running.on_log())["metadata"]
        await asyncio.to_thread(it.server.seal)
        await add(running, "b")
        part = f"signer.key.{it.name.uri}"
        await eventually(lambda: asyncio.sleep(0, "sealed" in running.health.problems.get(part, "")))
        await eventually(lambda: asyncio.sleep(0, "sealed" in "".join(said for p, said in running.health.problems.items() if "bins" in p)))
        assert (await running.on_log())["metadata"] == before

"""A session with Vault: the login, its renewal, and calls that are retried while a retry may succeed. Each process has one session.

Promises. The event loop never waits for Vault: hvac, which is synchronous, runs in a few threads, each call on its own connection. The
token is renewed before it expires; if it can't be renewed for long enough, or Vault refuses it, the session logs in again. Errors that may
be temporary (Vault is down, sealed, slow, limits the rate with 429, or has failed) are retried for ``vault.retry`` seconds, with growing
pauses and jitter; others are raised at once (``tufline.keys.vault.errors.is_passing``). Every failure becomes one ``KeyUnavailableError``
with one sentence. Lifetimes are durations from Vault, measured by the monotonic clock, so differing clocks do no harm. No message contains
a secret.
"""

import asyncio
import queue
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from tufline.config.settings import VaultConfig
from tufline.errors import ConfigError, KeyUnavailableError, KeyUnreachableError, TuflineError
from tufline.keys.vault import login
from tufline.keys.vault.errors import is_forbidden, is_passing, is_vaults, login_sentence, sentence

if TYPE_CHECKING:
    import hvac

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0

RENEW_AT: Final = 2 / 3
"""The fraction of a token's lifetime after which it is renewed."""

ENOUGH: Final = 0.5
"""If a renewal yields less than this fraction of the first lifetime, the token is near its maximum lifetime: then log in again."""

LEAST_RENEWAL_SECONDS: Final = 1.0

LOGIN_INTERVAL_SECONDS: Final = 2.0
"""The shortest time between logins after refusals: each login leaves a token in Vault, and the usual reason is a missing permission."""

_log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class _Token:
    """A token and its lifetime.

    Attributes:
        value: the secret.
        first_seconds: its lifetime when it was issued; 0 if it does not expire.
        since: when it was issued, by the event loop's clock.
    """

    value: str
    first_seconds: float
    since: float


class VaultSession:
    """Calls to Vault, for all keys of a process."""

    def __init__(self, config: VaultConfig) -> None:
        """Start unconnected; the first call logs in.

        Args:
            config: the section ``vault``.

        Raises:
            ConfigError: if hvac is not installed, or a setting that the login needs is missing.
        """
        try:
            import hvac  # noqa: PLC0415 (only keys in Vault need it)
        except ImportError as error:
            missing = f"a key is in Vault, but the client for Vault is not installed ({error.name})"
            raise ConfigError(f"{missing}: in a clone of Tufline, pip install '.[vault]'") from error
        login.check(config)
        self.config = config
        self._threads = ThreadPoolExecutor(config.connections, thread_name_prefix="vault")
        self._idle: queue.SimpleQueue[hvac.Client] = queue.SimpleQueue()
        for _ in range(config.connections):
            self._idle.put(login.new_client(config))
        self._logging_in = asyncio.Lock()
        self._token: _Token | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def call(self, doing: str, work: "Callable[[hvac.Client], T]") -> T:
        """Call Vault.

        Args:
            doing: the purpose as a verb phrase for messages, such as ``sign with transit/tufline``.
            work: makes the call; runs in a thread, and again if a retry may help.

        Returns:
            The result of ``work``.

        Raises:
            KeyUnavailableError: if Vault refuses the call.
            KeyUnreachableError: if the call does not succeed in time.
        """
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self.config.retry, FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._try(work)
            except TuflineError:
                raise
            except Exception as error:
                if not is_vaults(error):
                    raise
                reason = sentence(error, doing, self.config)
                if not is_passing(error) or loop.time() + pause > deadline:
                    raise (KeyUnreachableError if is_passing(error) else KeyUnavailableError)(reason) from error
                _log.warning("vault.retry", doing=doing, reason=reason)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _try(self, work: "Callable[[hvac.Client], T]") -> T:
        token = self._token or await self._log_in(None)
        try:
            return await self._in_thread(token.value, work)
        except Exception as error:
            # Another call may have logged in again meanwhile. If the token is young, it was not refused because it expired.
            is_young = asyncio.get_running_loop().time() - token.since < LOGIN_INTERVAL_SECONDS
            if not is_forbidden(error) or (self._token is token and is_young):
                raise
        return await self._in_thread((await self._log_in(token)).value, work)

    async def _in_thread(self, token: str, work: "Callable[[hvac.Client], T]") -> T:
        def do() -> T:
            client = self._idle.get()
            try:
                client.token = token
                return work(client)
            finally:
                self._idle.put(client)

        return await asyncio.get_running_loop().run_in_executor(self._threads, do)

    async def _log_in(self, old: _Token | None) -> _Token:
        """Log in, unless another call has done so meanwhile.

        Args:
            old: the token that Vault refused; None if there was none.

        Returns:
            The token to use.

        Raises:
            KeyUnavailableError: if Vault refuses the login; errors that may be temporary are raised unchanged.
        """
        async with self._logging_in:
            if self._token is not None and self._token is not old:
                return self._token
            try:
                value, seconds = await self._in_thread("", partial(login.log_in, config=self.config))
            except Exception as error:
                if not is_vaults(error) or is_passing(error):
                    raise
                raise KeyUnavailableError(login_sentence(error, self.config)) from error
            self._token = _Token(value, seconds, asyncio.get_running_loop().time())
            _log.info("vault.logged_in", address=self.config.address, auth=self.config.auth, seconds=seconds)
            if self._keeper is None or self._keeper.done():
                self._keeper = asyncio.create_task(self._keep_alive(), name="vault.token")
            return self._token

    async def _keep_alive(self) -> None:
        """Renew the token before it expires, or log in again, until cancelled. Failures are retried; calls report their own errors."""
        while self._token is not None and self._token.first_seconds > 0:
            token, left = self._token, self._token.first_seconds
            await asyncio.sleep(max(LEAST_RENEWAL_SECONDS, left * RENEW_AT * random.uniform(0.9, 1.0)))  # noqa: S311 (jitter)
            while self._token is token:
                try:
                    left = await self._in_thread(token.value, login.renew)
                    if left < ENOUGH * token.first_seconds:
                        await self._log_in(token)
                    break
                except Exception as error:  # noqa: BLE001 (no error may end the renewal; it is logged)
                    reason = str(error) if isinstance(error, TuflineError) else sentence(error, "renew its token", self.config)
                    _log.warning("vault.token_not_renewed", reason=reason)
                    if not is_passing(error):
                        with suppress(Exception):
                            await self._log_in(token)
                            break
                await asyncio.sleep(LONGEST_PAUSE_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)

    async def close(self) -> None:
        """End the session: the token is no longer renewed, and no new call starts."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().adapter.close()


def data_of(answer: Any) -> dict[str, Any]:
    """Return the data of an answer.

    Args:
        answer: an answer from hvac.

    Returns:
        The object ``data``.

    Raises:
        KeyUnavailableError: if it is not a valid answer of Vault.
    """
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, dict):
        raise KeyUnavailableError("the server at vault.address does not answer like Vault: check the address")
    return data

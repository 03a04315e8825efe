"""RSTUF's command line, as released, used like a person uses it: its commands run in a terminal, and its questions are answered.

One directory has everybody's key pairs; all private keys are encrypted with the same password. The online key is among them. The signer
needs its private key unencrypted, under the file name that the command line prints (``put_online_key``).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tufline.trust.ceremony import write_private
from tufline_testing.terminal import Terminal

PASSWORD: Final = "correct horse"
FROM_FILE: Final = "Key PEM File"
"""The command line's name for keys that are read from a file."""

_MAIN: Final = (
    "import sys; sys.modules.update(dict.fromkeys(('azure', 'boto3', 'botocore', 'google'))); "
    "from repository_service_tuf.cli import rstuf; rstuf()"
)
"""The same as the program ``rstuf``, which has a fixed path in it and does not run after the environment was moved.

It does not load the libraries of clouds, in which nobody here has keys: that took half of a command's time.
"""


@dataclass(frozen=True, slots=True)
class Role:
    """A custom role, as a person describes it to the command line.

    Attributes:
        name: its name.
        paths: the patterns of its paths.
        days: its lifetime.
        keys: names of its keys; none for the online key. The command line asks for no place at which a signer finds their private parts.
    """

    name: str
    paths: Sequence[str]
    days: int = 7
    keys: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Rstuf:
    """A person with RSTUF's command line.

    Attributes:
        python: the Python that has it.
        home: the person's home and working directory.
        api: URL of the REST API.
        keys: the private keys of the online keys, by their names.
    """

    python: Path
    home: Path
    api: str
    keys: dict[str, Ed25519PrivateKey] = field(default_factory=dict)

    def make_key(self, name: str) -> None:
        """Make a key pair: an encrypted private key ``NAME``, and ``NAME.pub``."""
        private = self.keys[name] = Ed25519PrivateKey.generate()
        encrypted = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD.encode()))
        self.home.mkdir(parents=True, exist_ok=True)
        write_private(self.home / name, encrypted)
        (self.home / f"{name}.pub").write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def put_online_key(self, name: str, said: str, directory: Path) -> None:
        """Save the private part of an online key in the file that the command line names."""
        file = re.findall(r"Expected private key file name is: '(\w+)'", said)[-1]
        write_private(directory / file, self.keys[name].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def start(self, *arguments: str | Path) -> Terminal:
        """Start a command, to answer its questions."""
        env = {"HOME": str(self.home), "PROMPT_TOOLKIT_NO_CPR": "1"}
        return Terminal([self.python, "-I", "-c", _MAIN, *arguments], cwd=self.home, env=env)

    def run(self, *arguments: str | Path) -> str:
        """Run a command without questions, which must succeed, and return its output."""
        with self.start(*arguments) as terminal:
            return terminal.finish()

    def refuse(self, *arguments: str | Path) -> str:
        """Run a command without questions, which must fail, and return its output."""
        with self.start(*arguments) as terminal:
            assert terminal.end() != 0, terminal.screen
            return terminal.screen

    def ceremony(
        self, *options: str | Path, root: Sequence[str], signers: Sequence[str], online: str, bins: int = 0, roles: Sequence[Role] = ()
    ) -> str:
        """Answer the questions of a ceremony for a repository with bins or with custom roles; its root has a threshold of 2.

        Args:
            options: of the command.
            bins: how many bins.
            roles: the custom roles, if there are no bins.
            root: names of the root keys.
            signers: names of the root keys that sign.
            online: name of the online key.

        Returns:
            What the command says.
        """
        with self.start("admin", "--api-server", self.api, "ceremony", *options) as terminal:
            for role in ("timestamp", "snapshot", "targets"):
                terminal.answer(f"expiry for '{role}' role", "")
            if roles:
                terminal.choose("online keys", "Custom Delegations (online/offline key)")
                self._make_roles(terminal, roles)
            else:
                terminal.choose("online keys", "Bins (online key only)")
                terminal.answer("expiry for 'bins' role", "7")
                terminal.answer("number of delegated hash bins", str(bins))
            terminal.answer("expiry for 'root' role", "")
            terminal.answer("'root' threshold", "2")
            for number, name in enumerate(root):
                if number:
                    terminal.choose("for threshold 2" if number == 1 else "more keys can be added", "add")
                self._load_root_key(terminal, name)
            terminal.choose("more keys can be added", "continue")
            self._load_online_key(terminal, online)
            self._sign_root(terminal, signers)
            return terminal.finish()

    def update(
        self, metadata_url: str, *options: str | Path, signers: Sequence[str], add: str = "", remove: str = "", online: str = ""
    ) -> str:
        """Make and submit the next root.

        Args:
            metadata_url: where the metadata is published.
            options: of the command.
            signers: names of the root keys that sign.
            add: name of a root key to add.
            remove: name of a root key to remove.
            online: name of a new online key.

        Returns:
            What the command says.
        """
        with self.start("admin", "--api-server", self.api, "metadata", "update", "--metadata-url", metadata_url, *options) as terminal:
            terminal.answer("change the expiry date?", "y")
            terminal.answer("expiry for 'root' role", "200")
            terminal.answer("change the threshold?", "n")
            if add:
                terminal.choose("more keys can be added", "add")
                self._load_root_key(terminal, add)
            if remove:
                terminal.choose("more keys can be added", "remove")
                terminal.choose("Select a key to remove:", remove)
            terminal.choose("more keys can be added", "continue")
            terminal.answer("change the online key?", "y" if online else "n")
            if online:
                self._load_online_key(terminal, online)
            self._sign_root(terminal, signers)
            return terminal.finish()

    def sign(self, name: str, *options: str | Path, role: str = "root") -> str:
        """Sign the pending root, or the pending version of a custom role, and return the command's output."""
        with self.start("admin", "--api-server", self.api, "metadata", "sign", *options) as terminal:
            terminal.choose("Select a role to sign:", role)
            terminal.choose("Select key for signing:" if role == "root" else "", name)
            self._sign(terminal, name)
            return terminal.finish()

    def stop_sign(self) -> str:
        """Withdraw the pending root, and return the command's output."""
        with self.start("admin", "--api-server", self.api, "metadata", "stop-sign") as terminal:
            terminal.choose("Select which metadata signing process to stop:", "root")
            terminal.answer("still want to stop signing process for root?", "y")
            return terminal.finish()

    def refuse_new_roles(self, roles: Sequence[Role]) -> str:
        """Add custom roles with a command that must fail, and return its output.

        Args:
            roles: the roles.
        """
        with self.start("admin", "--api-server", self.api, "delegations", "new") as terminal:
            self._make_roles(terminal, roles)
            assert terminal.end() != 0, terminal.screen
            return terminal.screen

    def delete_roles(self, metadata_url: str, *names: str) -> str:
        """Delete custom roles, and return the command's output.

        Args:
            metadata_url: where the metadata is published.
            names: the roles, in the order of targets.
        """
        command = ("admin", "--api-server", self.api, "delegations", "delete", "--metadata-url", metadata_url)
        with self.start(*command) as terminal:
            terminal.tick("Delete Targets Metadata Tool", *names)
            return terminal.finish()

    def _make_roles(self, terminal: Terminal, roles: Sequence[Role]) -> None:
        for number, role in enumerate(roles):
            if number:
                terminal.choose("Delegation Metadata", "add new delegation")
            terminal.answer("Please enter delegated target role name", role.name)
            terminal.answer(f"expiry for '{role.name}' role", str(role.days))
            for nth, path in enumerate(role.paths):
                if nth:
                    terminal.choose(f"Current paths for '{role.name}'", "add new path")
                terminal.answer("Please enter path", path)
            terminal.choose(f"- '{role.paths[-1]}'", "continue")
            terminal.choose("Select signing:", "Add Keys" if role.keys else "Online Key (use the existing)")
            if role.keys:
                terminal.answer(f"Please enter '{role.name}' threshold", str(len(role.keys)))
                for nth, name in enumerate(role.keys):
                    if nth:
                        terminal.choose("missing for threshold", "add")
                    self._load_root_key(terminal, name)
                terminal.choose(f"- '{role.keys[-1]}'", "continue")
        terminal.choose("Delegation Metadata", "continue")

    def _load_root_key(self, terminal: Terminal, name: str) -> None:
        terminal.choose("Select a key type:", FROM_FILE)
        terminal.answer("PUBLIC key:", f"{name}.pub")
        terminal.answer("Please enter key name", name)
        terminal.expect(f"Added key '{name}'")

    def _load_online_key(self, terminal: Terminal, name: str) -> None:
        terminal.choose("Select Online Key type:", FROM_FILE)
        terminal.answer("PUBLIC key:", f"{name}.pub")
        terminal.answer("Please enter key name", name)

    def _sign_root(self, terminal: Terminal, signers: Sequence[str]) -> None:
        for name in signers:
            terminal.choose("Select a key for signing", name)
            self._sign(terminal, name)
        if terminal.expect("fully signed", "or continue:") == "or continue:":
            terminal.choose("", "continue")

    def _sign(self, terminal: Terminal, name: str) -> None:
        terminal.choose("", FROM_FILE)
        terminal.answer("encrypted private key", name)
        terminal.answer_secret(f"password to encrypted private key '{name}'", PASSWORD)
        terminal.expect(f"Signed metadata with key '{name}'")

"""The health of a process: which of its parts are ready, and why the others are not."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Health:
    """The parts of a process and their state. Each service registers its parts when it starts; a part that never reported is not listed.

    Attributes:
        problems: name of a part to the reason why it is not ready, in one sentence; empty if it is ready.
        warnings: the parts with a problem that people must know of, but that does not keep the process from its work.
    """

    problems: dict[str, str] = field(default_factory=dict)
    warnings: set[str] = field(default_factory=set)

    def ok(self, part: str) -> None:
        """Report that a part is ready.

        Args:
            part: the part's name, such as ``signer.bins.3``.
        """
        self.problems[part] = ""
        self.warnings.discard(part)

    def problem(self, part: str, reason: str) -> None:
        """Report that a part is not ready.

        Args:
            part: the part's name.
            reason: what is wrong and what to do, in one sentence.
        """
        self.problems[part] = reason
        self.warnings.discard(part)

    def warn(self, part: str, reason: str) -> None:
        """Report a problem that people must attend to, although the part is ready.

        Args:
            part: the part's name, such as ``expiry.root``.
            reason: what is wrong and what to do, in one sentence; empty to withdraw the warning.
        """
        if not reason:
            self.gone(part)
            return
        self.problems[part] = reason
        self.warnings.add(part)

    def gone(self, part: str) -> None:
        """Remove a part that this process no longer has.

        Args:
            part: the part's name.
        """
        self.problems.pop(part, None)
        self.warnings.discard(part)

    @property
    def ready(self) -> bool:
        """Whether there is at least one part and all parts are ready; a part with a warning is ready."""
        return bool(self.problems) and not any(reason for part, reason in self.problems.items() if part not in self.warnings)

"""The health of a process: which of its parts are ready, why the others are not, and what people must attend to."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Health:
    """The parts of a process and their state. Each service registers its parts when it starts; a part that never reported is not listed.

    A part is in one of the two dictionaries.

    Attributes:
        parts: name of a part to the problem that keeps it from its work, in one sentence; None if it is ready.
        warnings: for each ready part that needs attention nevertheless, its name to one sentence that says why.
    """

    parts: dict[str, str | None] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)

    def ok(self, part: str) -> None:
        """Report that a part is ready.

        Args:
            part: the part's name, such as ``signer.bins.3``.
        """
        self.warnings.pop(part, None)
        self.parts[part] = None

    def problem(self, part: str, reason: str) -> None:
        """Report that a part is not ready.

        Args:
            part: the part's name.
            reason: what is wrong and what to do, in one sentence.
        """
        self.warnings.pop(part, None)
        self.parts[part] = reason

    def warn(self, part: str, reason: str | None) -> None:
        """Report a problem that people must attend to, although the part is ready.

        Args:
            part: the part's name, such as ``expiry.root``.
            reason: what is wrong and what to do, in one sentence; None to withdraw the warning, and the part with it.
        """
        self.gone(part)
        if reason is not None:
            self.warnings[part] = reason

    def gone(self, part: str) -> None:
        """Remove a part that this process no longer has.

        Args:
            part: the part's name.
        """
        self.parts.pop(part, None)
        self.warnings.pop(part, None)

    @property
    def problems(self) -> dict[str, str]:
        """The parts that are not ready, and why."""
        return {part: reason for part, reason in self.parts.items() if reason is not None}

    @property
    def ready(self) -> bool:
        """Whether there is at least one part and all parts are ready; a part with a warning is ready."""
        return bool(self.parts or self.warnings) and not self.problems

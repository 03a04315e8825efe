"""What a process says of itself: which of its parts are ready, and why the others are not."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Health:
    """The parts of a process and their state. A part that has not said anything is not listed; each service lists its parts at its start.

    Attributes:
        problems: name of a part to the reason why it is not ready, in one sentence; empty when it is ready.
        warnings: the parts whose problem people must know of, and that does not keep the process from its work.
    """

    problems: dict[str, str] = field(default_factory=dict)
    warnings: set[str] = field(default_factory=set)

    def ok(self, part: str) -> None:
        """Say that a part is ready.

        Args:
            part: its name, such as ``signer.bins.3``.
        """
        self.problems[part] = ""
        self.warnings.discard(part)

    def problem(self, part: str, reason: str) -> None:
        """Say why a part is not ready.

        Args:
            part: its name.
            reason: what is wrong and what to do, in one sentence.
        """
        self.problems[part] = reason
        self.warnings.discard(part)

    def warn(self, part: str, reason: str) -> None:
        """Say what people must look after, while everything works.

        Args:
            part: its name, such as ``expiry.root``.
            reason: what is wrong and what to do, in one sentence; empty when nothing is.
        """
        if not reason:
            self.gone(part)
            return
        self.problems[part] = reason
        self.warnings.add(part)

    def gone(self, part: str) -> None:
        """Say that a part is no longer this process's.

        Args:
            part: its name.
        """
        self.problems.pop(part, None)
        self.warnings.discard(part)

    @property
    def ready(self) -> bool:
        """Whether every part is ready, and there is one; a warning leaves its part ready."""
        return bool(self.problems) and not any(reason for part, reason in self.problems.items() if part not in self.warnings)

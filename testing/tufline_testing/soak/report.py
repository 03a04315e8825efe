"""What a soak saw."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Report:
    """What a soak saw. Many threads write it.

    Attributes:
        faults: kind to how many there were.
        sent: kind of sender to how many changes of it were acknowledged.
        refreshes: of clients.
        slowest: the longest time from acceptance to live that was seen, in seconds.
        zombies: signers that were stopped past their session and woken.
        fenced: how many of them say that they were fenced.
        checked: what was checked afterwards, to how many of it.
        problems: what must not be; empty if all is well.
    """

    faults: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    refreshes: int = 0
    slowest: float = 0.0
    zombies: int = 0
    fenced: int = 0
    checked: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    @property
    def accepted(self) -> int:
        """How many changes were acknowledged."""
        return sum(self.sent.values())

    def problem(self, text: str) -> None:
        """Note what must not be.

        Args:
            text: in one sentence.
        """
        with self.lock:
            self.problems.append(text)

    def __str__(self) -> str:
        """Say it in some lines."""
        lines = [
            f"faults      {sum(self.faults.values())}: {_counted(self.faults)}",
            f"accepted    {self.accepted} changes ({_counted(self.sent)}), the slowest live after {self.slowest:.1f} s",
            f"clients     {self.refreshes} refreshes",
            f"zombies     {self.zombies}, of which {self.fenced} tried to write and were fenced",
            f"checked     {_counted(self.checked)}",
            *(f"PROBLEM     {problem}" for problem in self.problems),
            "all is well" if not self.problems else f"{len(self.problems)} problems",
        ]
        return "\n".join(lines)


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counter.items()))

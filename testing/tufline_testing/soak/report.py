"""The report of a soak."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Report:
    """The report of a soak. Many threads write to it.

    Attributes:
        faults: kind of fault to number of faults.
        sent: kind of sender to number of acknowledged changes.
        refreshes: number of client refreshes.
        slowest: the longest observed time from acceptance to live, in seconds.
        zombies: number of signers that were paused for longer than their session and woken.
        fenced: how many zombies logged that they were fenced.
        checked: kind of thing checked afterwards, to number of checks.
        problems: violated guarantees; empty if there are none.
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
        """Record a violated guarantee.

        Args:
            text: a description in one sentence.
        """
        with self.lock:
            self.problems.append(text)

    def __str__(self) -> str:
        """The report as text."""
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

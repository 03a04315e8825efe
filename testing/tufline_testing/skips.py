"""Makes skipped tests visible: a skipped test proves nothing.

Under ``.ci/run``, which installs every part, a skip is a failure. Elsewhere the run ends with a list of what was not tested.
"""

import os
from collections import Counter
from collections.abc import Generator

import pytest


def _reason(report: pytest.TestReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a skip as a failure if ``CI_RUN`` is set; expected failures stay unchanged."""
    report = yield
    if os.environ.get("CI_RUN") and report.skipped and not hasattr(report, "wasxfail"):
        reason = _reason(report)
        report.outcome = "failed"
        report.longrepr = f"no test may be skipped under .ci/run: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the reasons of all skips, with the number of tests that each concerns."""
    reasons = Counter(_reason(report).removeprefix("Skipped: ").partition("\n")[0] for report in terminalreporter.stats.get("skipped", []))
    if reasons:
        terminalreporter.section(f"NOT TESTED: {reasons.total()} tests were skipped", red=True, bold=True)
        for reason, count in reasons.most_common():
            terminalreporter.line(f"{count:5} {reason}", red=True)

"""A skipped test shows nothing: under ``.ci/run``, which installs every part, a skip is a failure, whatever its reason is."""

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a skip as a failure where ``CI_RUN`` is set; what is expected to fail stays as it is."""
    report = yield
    if os.environ.get("CI_RUN") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped under .ci/run: {reason}"
    return report

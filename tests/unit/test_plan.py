"""The output of ``tufline plan``, and the formulas at their limits; tests/services/signer/test_plan.py compares these with a signer."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tufline.config.settings import SignerConfig
from tufline.trust import plan
from tufline.trust.plan import DAY_SECONDS, Load, Timing
from tufline_cli import main
from tufline_cli.exit_codes import Exit

CONFIG = SignerConfig()
TIMING = Timing(CONFIG.commit_interval, CONFIG.commit_delay, CONFIG.renew_fraction, CONFIG.renewal_check, 4)
LOAD = Load(10_000, 64, 1_000)


def test_without_changes_only_renewal_is_left() -> None:
    """A repository at rest is signed as its lifetimes require: bins at three quarters of the longest time, on average."""
    done = plan.work(replace(LOAD, changes=1e-6), TIMING)
    assert done.changed == pytest.approx(0, abs=1e-3)
    assert done.renewed == pytest.approx(64 / (0.75 * 3.5), rel=1e-3)
    alone = plan.work(replace(LOAD, bins=2, changes=1e-6), replace(TIMING, days=dict(TIMING.days) | {"bins": 3_000}))
    assert alone.snapshots == pytest.approx(1 / 3.5, rel=0.02)
    assert alone.timestamps == pytest.approx(2, rel=0.1)


def test_the_commit_interval_bounds_the_commits() -> None:
    """However many changes come, there is at most one commit in an interval; few changes have a commit each."""
    busy = plan.work(replace(LOAD, changes=1e9), TIMING)
    assert busy.snapshots == busy.timestamps == pytest.approx(DAY_SECONDS / 0.26, rel=1e-6)
    calm = plan.work(replace(LOAD, changes=500), TIMING)
    assert calm.snapshots == pytest.approx(500 + calm.renewed, rel=0.01)


@pytest.mark.parametrize(("bins", "changes", "expected"), [(64, 1, 1), (1_000_000, 50, 50), (2, 1_000, 2), (2, 2, 1.5)])
def test_touched_bins(bins: int, changes: int, expected: float) -> None:
    """A request touches a bin for each change, unless several fall into one bin."""
    assert plan.touched(bins, changes) == pytest.approx(expected, rel=1e-3)


def test_a_bin_that_changes_all_the_time_is_not_renewed() -> None:
    """The rates of change and renewal go over into each other, without a jump where the formula is approximated."""
    longest = TIMING.longest("bins")
    assert plan._renewals(100 / longest, longest) == pytest.approx(0, abs=1e-12)
    below, above = (plan._renewals(plan.FEW * factor / longest, longest) for factor in (1 - 1e-9, 1 + 1e-9))
    assert below == pytest.approx(above, rel=1e-7)


def test_bins_are_extrapolated_from_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of a large bin that is extrapolated is that of the bin itself."""
    load = Load(3_000, 2, 1)
    extrapolated = plan.sizes(load).files["bin"]
    monkeypatch.setattr(plan, "SAMPLE", 10_000)
    real = plan.sizes(load).files["bin"]
    assert extrapolated.raw == pytest.approx(real.raw, rel=0.01)
    assert extrapolated.gzip == pytest.approx(real.gzip, rel=0.02)
    assert plan.sizes(Load(10**8, 2, 1)).is_too_large


def run(*arguments: str) -> str:
    """Run the command in this process."""
    done = CliRunner().invoke(main, ["plan", *arguments])
    assert done.exit_code == Exit.OK, done.output
    return done.output


def test_the_command_compares(tmp_path: Path) -> None:
    """It prints sizes, work, and other numbers of bins; bins and lifetimes come from a ceremony, settings from the configuration."""
    said = run("--files", "20000", "--changes", "100")
    assert "20,000 files in 32 bins" in said
    assert [line.split()[0] for line in said.splitlines()[-5:]] == ["8", "16", "32", "64", "128"]
    (tmp_path / "answers.yaml").write_text("root_holders: [ada]\nbins: 64\nbins_days: 1\n")
    (tmp_path / "tufline.toml").write_text("[signer]\ncommit_interval = 60\n")
    common = ("--files", "20000", "--changes", "100000", "--json")
    plain = json.loads(run(*common, "--bins", "64"))
    other = json.loads(run(*common, "--answers", str(tmp_path / "answers.yaml"), "--config", str(tmp_path / "tufline.toml")))
    assert plain["load"] == other["load"]
    assert other["day"]["snapshots"] < 1441 < plain["day"]["snapshots"]
    assert other["new_client"]["raw"] == pytest.approx(sum(size["raw"] for size in other["sizes"].values()))


def test_impossible_numbers_are_refused(tmp_path: Path) -> None:
    """A number of bins that no repository can have, and a file without answers, are errors."""
    (tmp_path / "answers.yaml").write_text("[")
    for arguments, reason in ((["--bins", "5"], "power of two"), (["--answers", str(tmp_path / "answers.yaml")], "has no answers")):
        done = CliRunner().invoke(main, ["plan", "--files", "10", *arguments])
        assert (done.exit_code, reason in done.output) == (Exit.USAGE, True), done.output

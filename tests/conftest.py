# SPDX-License-Identifier: Apache-2.0
"""Session set-up: which tiers this run exercises, which kernels it cannot, Hypothesis profiles."""

from __future__ import annotations

import os

import hypothesis
import numpy as np
import pytest

import qkernels as qk
from qkernels import _core

hypothesis.settings.register_profile("dev", deadline=None, max_examples=100)
hypothesis.settings.register_profile(
    "ci", deadline=None, max_examples=100, derandomize=True, print_blob=True
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_configure(config: pytest.Config) -> None:
    _core.set_eager_threads(True)  # small cases must reach the threads as well
    expected = [t for t in os.environ.get("QKERNELS_EXPECT_TIERS", "").split(",") if t.strip()]
    missing = sorted({t.strip() for t in expected} - set(qk.available_isas()))
    if missing:
        raise pytest.UsageError(
            f"QKERNELS_EXPECT_TIERS: {', '.join(missing)} not available here; "
            f"available: {', '.join(qk.available_isas())}"
        )


def pytest_report_header() -> list[str]:
    idle = [f"{t['name']} (needs {t['missing']})" for t in _core.isas() if not t["available"]]
    return [
        f"qkernels {qk.__version__}: tiers exercised: {', '.join(qk.available_isas())}",
        f"qkernels: built, but not runnable on this CPU: {', '.join(idle) or 'none'}",
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Not run is not passed: say which kernels no test of this run can have executed."""
    idle = [k["name"] for k in _core.kernels() if not k["available"]]
    if idle:
        terminalreporter.section("kernels not executed on this CPU")
        terminalreporter.write_line(", ".join(idle))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random data that depends on the test's name alone."""
    return np.random.default_rng(list(request.node.nodeid.encode()))


@pytest.fixture(autouse=True)
def settings_restored() -> object:
    """No test may leave a tier or a thread count behind."""
    before = qk.isa(), qk.get_num_threads()
    yield
    assert (qk.isa(), qk.get_num_threads()) == before

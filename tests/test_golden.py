# SPDX-License-Identifier: Apache-2.0
"""The same bits on every machine: hashes of fixed cases, taken once and kept in the package."""

from __future__ import annotations

import pytest

import qkernels as qk
from qkernels.selftest import golden


@pytest.mark.parametrize("isa", qk.available_isas())
def test_hashes(isa):
    with qk.use_isa(isa):
        assert golden.hashes() == golden.expected()

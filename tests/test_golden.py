# SPDX-License-Identifier: Apache-2.0
"""The same bits on every machine: hashes of fixed cases, taken once and kept in golden.json."""

from __future__ import annotations

import json

import pytest

import golden
import qkernels as qk


@pytest.mark.parametrize("isa", qk.available_isas())
def test_hashes(isa):
    with qk.use_isa(isa):
        assert golden.hashes() == json.loads(golden.FILE.read_text())

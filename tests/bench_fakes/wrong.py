# SPDX-License-Identifier: Apache-2.0
"""Sums pairs of products in saturating int16, as vpmaddubsw does."""

import numpy as np

from bench_fakes import Fake, environment

__all__ = ["LIBRARY", "discover", "environment"]
LIBRARY = "Wrong"


class Wrong(Fake):
    def prepare(self, case, data, threads):
        x, w = data.x.astype(np.int64), data.w.astype(np.int64)
        products = x[:, None, :] * w[None]
        pairs = np.clip(products[..., ::2] + products[..., 1::2], -32768, 32767)
        sums = pairs.sum(axis=-1) - data.x_zero_point * w.sum(axis=1) + data.bias
        multiplier = np.float32(data.x_scale) * data.w_scale / np.float32(data.out_scale)
        codes = np.rint(sums.astype(np.float32) * multiplier) + data.out_zero_point
        self.right = np.clip(codes, 0, 255).astype(np.uint8)
        return lambda: None


def discover():
    return [Wrong("Wrong")]

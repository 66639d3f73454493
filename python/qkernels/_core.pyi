"""The compiled core: the C API with NumPy arrays. Private; `qkernels` is the public face.

Arrays arrive here already checked and normalised by the Python layer. float16 and bfloat16 data
travel as uint16 arrays beside the name of their dtype. Every failure raises `CoreError`.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
XDtype = Literal["int8", "uint8", "float32", "float16", "bfloat16"]
OutDtype = Literal["int32", "float32", "int8", "uint8"]
Rounding = Literal["nearest_even", "fixed_point", "fixed_point_single"]
Activation = Literal["identity", "clip", "gelu", "silu", "tanh", "sigmoid", "hardswish"]

__version__: str

class CoreError(Exception):
    """`.args` is (code, message); code is the lower-case name of a qk_status:
    "invalid_argument", "unsupported", "damaged", "overflow", "nan", "not_finite",
    "other_layout". Lack of memory raises MemoryError instead."""

# Machine -------------------------------------------------------------------------------------
def isas() -> list[dict[str, Any]]:
    """Tiers built in, worst first: {"name", "parent", "available", "missing"} each."""

def isa() -> str: ...
def use_isa(name: str) -> None: ...
def cpu_features() -> list[str]: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def get_process_threads() -> int: ...
def set_local_threads(n: int) -> None: ...
def get_local_threads() -> int: ...
def set_eager_threads(eager: bool) -> None: ...
def cpu_count() -> int: ...
def kernels() -> list[dict[str, Any]]:
    """The registry: {"name", "tier", "op", "layout", "lhs", "mr", "nr", "kr", "available"} each."""

# Packed weights ------------------------------------------------------------------------------
class Packed:
    """Immutable packed integers. `info` has kind ("matrix" | "conv" | "depthwise"), dtype, layout,
    n, k, kh, kw, c, groups, size."""

    @staticmethod
    def matrix(w: Array) -> Packed:
        """w (N, K), int8 or uint8, any strides."""
    @staticmethod
    def conv(w: Array, groups: int, zero_point: NDArray[np.int32] | None) -> Packed:
        """w (O, KH, KW, I / groups), int8 or uint8, any strides. Becomes kind "depthwise" when
        I / groups == 1 and groups > 1; zero_point ((1,) or (O,)) is then removed at once."""
    @staticmethod
    def from_buffer(buffer: Any) -> Packed:
        """From the bytes of `buffer()`: no copy when 64-byte aligned. CoreError "damaged" when
        they are not sound."""
    @property
    def info(self) -> dict[str, Any]: ...
    @property
    def native(self) -> bool:
        """Can the active tier use this layout."""
    def buffer(self) -> memoryview:
        """Read-only bytes: header, weights, sums. Keeps the object alive."""
    def unpack(self, out: Array | None = None) -> Array:
        """(N, K), or (O, KH, KW, I / groups): the exact integers given. out: of that shape and the
        dtype given, any strides without overlap."""

# Prepared ops --------------------------------------------------------------------------------
class Linear:
    def __init__(
        self,
        packed: Packed,
        *,
        x_dtype: XDtype,
        out_dtype: OutDtype,
        x_scale: float = 0.0,  # 0: none
        x_zero_point: int = 0,
        w_scale: NDArray[np.float32] | None = None,  # (1,) or (N,)
        w_zero_point: NDArray[np.int32] | None = None,  # (1,) or (N,)
        bias: NDArray[np.float32] | NDArray[np.int32] | None = None,  # (N,)
        out_scale: float = 0.0,
        out_zero_point: int = 0,
        rounding: Rounding = "nearest_even",
        activation: Activation = "identity",
        activation_lo: float = ...,  # with "clip"
        activation_hi: float = ...,
    ) -> None: ...
    def run(self, x: Array, out: Array, row_zero_point: NDArray[np.int32] | None = None) -> None:
        """x (M, K), out (M, N): last axis contiguous, rows at any stride. No overlap."""

    def call(self, x: object, out: object) -> Array | None:
        """x (..., K) to out (..., N), or to a new array where out is None, in one step, for plain
        arrays: NumPy's own type, the op's dtypes, aligned, rows at one distance, no overlap, not
        empty. None, with nothing done, for any other: then the checked way through `run`."""

class Conv2d:
    def __init__(
        self,
        packed: Packed,
        *,
        stride: tuple[int, int],
        dilation: tuple[int, int],
        padding: tuple[int, int, int, int],  # top, bottom, left, right
        x_dtype: XDtype,
        out_dtype: OutDtype,
        x_scale: float = 0.0,
        x_zero_point: int = 0,
        w_scale: NDArray[np.float32] | None = None,
        w_zero_point: NDArray[np.int32] | None = None,
        bias: NDArray[np.float32] | NDArray[np.int32] | None = None,
        out_scale: float = 0.0,
        out_zero_point: int = 0,
        rounding: Rounding = "nearest_even",
        activation: Activation = "identity",
        activation_lo: float = ...,
        activation_hi: float = ...,
    ) -> None: ...
    def run(self, x: Array, out: Array) -> None:
        """x (B, H, W, C), out (B, OH, OW, N): last axis contiguous, others at any stride."""

    def call(self, x: object, out: object) -> Array | None:
        """As `Linear.call`, for C-contiguous x (..., H, W, C) and out (..., OH, OW, N)."""

def gemm_batch(a: Array, b: Array, a_zero_point: int, b_zero_point: int, out: Array) -> None:
    """a (..., M, K), b (..., K, N), out int32 (..., M, N), equal leading shapes (broadcast views
    with stride 0 allowed); b is packed a matrix at a time, once where its stride is 0."""

# Quantization --------------------------------------------------------------------------------
# The first four take the arguments of the public functions, in whatever form they came, and give
# the result where all is plain: arrays of NumPy's own type, native, aligned, C-contiguous, out
# apart from what is read; numbers of Python or NumPy, or float32 and int32 arrays with one axis or
# none, for scale, zero_point and bias; everything valid. None, with nothing decided, for any other.
# x_dtype: only for arrays brought into that form, float16 and bfloat16 as uint16. With it NaN and
# infinities raise CoreError, without it they give None.
def quantize(
    x: object,
    scale: object,
    zero_point: object,
    axis: object,
    dtype: object,
    out: object,
    x_dtype: str | None = None,
) -> Array | None: ...
def dequantize(
    q: object, scale: object, zero_point: object, axis: object, out: object
) -> NDArray[np.float32] | None: ...
def requantize(
    acc: object,
    scale: object,
    zero_point: object,
    axis: object,
    bias: object,
    dtype: object,
    activation: object,
    rounding: object,
    out: object,
) -> Array | None: ...
def dynamic_quantize(
    x: object, granularity: object, scheme: object, x_dtype: str | None = None
) -> tuple[Array, Any, Any] | None: ...
def quantize_weights(
    w: NDArray[np.float32],
    shape3: tuple[int, int, int],  # outer, channels, inner; w C-contiguous
    q: NDArray[np.int8],
    scale: NDArray[np.float32],
) -> None:
    """Symmetric by the channel: scale = amax / 127, of zeros 1; CoreError "not_finite"."""

def value_range(x: Array, x_dtype: str) -> tuple[float, float, float]:
    """(min, max, amax) of a C-contiguous array; CoreError "not_finite"."""

# Probes --------------------------------------------------------------------------------------
def probe(
    what: Literal["dots", "float32", "read", "chain"], seconds: float, bytes: int = 0
) -> float:
    """Work a second of the active tier on the threads of this call, the best of four windows of
    seconds / 4: int8 multiply-adds, float32 multiply-adds, bytes read from `bytes` (a multiple of
    1024) a thread, dependent integer steps."""

# SPDX-License-Identifier: Apache-2.0
"""pack_conv2d, conv2d_int8 and their prepared form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qkernels import _core, arrays, checks, forms
from qkernels.arrays import Array
from qkernels.checks import Scale, ZeroPoint
from qkernels.errors import QKernelsValueError, from_core
from qkernels.linear import (
    PLAIN,
    channel_parameters,
    integer_weights,
    prepare,
    refuse_beside_packed,
)
from qkernels.packed import PackedWeights, field, remember, shared_scale
from qkernels.quantization.functional import quantize_operand

Call = Callable[..., Any]
Pads = tuple[int, int, int, int]  # top, bottom, left, right

WEIGHT_LAYOUTS = ("OIHW", "OHWI", "HWIO")
LAYOUTS = ("NHWC", "NCHW")
_LARGEST = 2**24  # of a stride, dilation or padding: far from any overflow of the core's sizes


class Geometry(NamedTuple):
    """How the kernel moves over the image. Hashable."""

    stride: tuple[int, int]
    padding: Pads | None  # None: "same"
    dilation: tuple[int, int]
    groups: int

    def pads(self, kernel: tuple[int, int], size: tuple[int, int]) -> Pads:
        """top, bottom, left, right for an image of `size`."""
        if self.padding is not None:
            return self.padding
        ends: list[int] = []
        for length, step, reach in zip(size, self.stride, self.reach(kernel), strict=True):
            needed = max((-(-length // step) - 1) * step + reach - length, 0)
            ends += (needed // 2, needed - needed // 2)
        return ends[0], ends[1], ends[2], ends[3]

    def reach(self, kernel: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the input that one output pixel sees."""
        return (
            self.dilation[0] * (kernel[0] - 1) + 1,
            self.dilation[1] * (kernel[1] - 1) + 1,
        )


class PackedConv2d(PackedWeights):
    """Weights of a convolution, packed by `pack_conv2d`, with its geometry. Immutable, picklable.

    `.shape`, `.dtype`, `.isa`, `.layout`, `.nbytes`, `.weight_scale`, `.weight_zero_point`,
    `.bias`, `.weight_layout`, `.stride`, `.padding`, `.dilation`, `.groups`, `.unpack()`,
    `.bind(...)`.
    """

    __slots__ = ("_bias", "_geometry", "_scale", "_weight_layout", "_zero_point")

    _scale: Scale | None
    _zero_point: ZeroPoint
    _bias: Array | None
    _weight_layout: str
    _geometry: Geometry

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the weights in `weight_layout`."""
        info = self._info
        sizes = {"O": info["n"], "H": info["kh"], "W": info["kw"], "I": info["c"]}
        o, i, h, w = (sizes[letter] for letter in self._weight_layout)
        return o, i, h, w

    @property
    def weight_scale(self) -> np.float32 | NDArray[np.float32] | None:
        """float32 scalar or (O,); None for integer weights given without a scale."""
        return shared_scale(self._scale)

    @property
    def weight_zero_point(self) -> np.int32 | NDArray[np.int32]:
        """int32 scalar or (O,)."""
        return self._zero_point if self._zero_point.ndim else self._zero_point[()]

    @property
    def bias(self) -> Array | None:
        """float32 or int32 of shape (O,), or None."""
        return self._bias

    @property
    def weight_layout(self) -> str:
        """ "OIHW", "OHWI" or "HWIO", as given."""
        return self._weight_layout

    @property
    def stride(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self._geometry.stride

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]] | str:
        """((top, bottom), (left, right)) or "same"."""
        pads = self._geometry.padding
        return "same" if pads is None else (pads[:2], pads[2:])

    @property
    def dilation(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self._geometry.dilation

    @property
    def groups(self) -> int:
        """Number of groups of channels."""
        return self._geometry.groups

    def unpack(self) -> Array:
        """The exact integers, in `weight_layout`."""
        integers = np.empty(self.shape, self.dtype)
        self._packed.unpack(integers.transpose([self._weight_layout.index(i) for i in "OHWI"]))
        return integers

    def bind(
        self,
        *,
        layout: str = "NHWC",
        x_scale: Any = None,
        x_zero_point: Any = 0,
        out_scale: Any = None,
        out_zero_point: Any = 0,
        out_dtype: Any = None,
        activation: Any = None,
        rounding: str = "nearest_even",
    ) -> Call:
        """`conv2d_int8` with everything but the data decided: a callable (x, out=None) for hot
        loops. Arguments, results and errors are those of `conv2d_int8`.

        >>> import numpy as np, qkernels as qk
        >>> packed = qk.pack_conv2d(np.ones((1, 1, 2, 2), np.int8))
        >>> packed.bind(layout="NCHW")(np.ones((1, 1, 3, 3), np.int8)).shape
        (1, 1, 2, 2)
        """
        checks.choice(layout, LAYOUTS, "layout")
        wanted = forms.request(
            x_scale, x_zero_point, out_scale, out_zero_point, out_dtype, activation, rounding
        )
        return remember(self._calls, (layout, wanted), lambda: _bound(self, layout, wanted))

    def _more(self) -> str:
        bias = "None" if self._bias is None else self._bias.dtype
        return (
            f", bias={bias}, weight_layout={self.weight_layout!r}, stride={self.stride}, "
            f"padding={self.padding!r}, dilation={self.dilation}, groups={self.groups}"
        )

    def _meta(self) -> dict[str, Any]:
        return {
            "weight_scale": self._scale,
            "weight_zero_point": self._zero_point,
            "bias": self._bias,
            "weight_layout": self._weight_layout,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @classmethod
    def _rebuild(cls, packed: _core.Packed, meta: dict[str, Any]) -> PackedConv2d:
        shape = _geometry(meta["stride"], meta["padding"], meta["dilation"], meta["groups"])
        field(packed, "PackedConv2d", "conv depthwise")
        if packed.info["groups"] != shape.groups:
            raise QKernelsValueError(f"groups is {shape.groups}, not {packed.info['groups']}")
        fields = channel_parameters(
            packed.info["n"],
            packed.info["dtype"],
            meta["weight_scale"],
            meta["weight_zero_point"],
            meta["bias"],
        )
        if not packed.native:
            packed = _pack(packed.unpack(), shape.groups, fields["_zero_point"])
        layout = checks.choice(meta["weight_layout"], WEIGHT_LAYOUTS, "weight_layout")
        return cls._make(packed, _geometry=shape, _weight_layout=layout, **fields)


def pack_conv2d(
    weight: Any,
    bias: Any = None,
    *,
    weight_scale: Any = None,
    weight_zero_point: Any = 0,
    weight_layout: str = "OIHW",
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> PackedConv2d:
    """Pack the weights of a convolution, with its geometry, for any number of calls.

    weight: 4-D in `weight_layout` ("OIHW", "OHWI" or "HWIO"), O output channels, I input channels
    a group. Floating point: quantized by the output channel, scale[o] = amax / 127. int8 or uint8:
    with weight_scale and weight_zero_point, scalar or (O,). bias: (O,), float or integer. As in
    `pack_linear`.
    stride, dilation: int or (rows, columns), at least 1.
    padding: int, (rows, columns), ((top, bottom), (left, right)), or "same": output size
    ceil(input / stride), the odd pixel at the bottom and right. Padding is real zero.
    groups: divides O; the input has I * groups channels; depthwise when I is 1.

    Raises QKernelsError as `pack_linear` does.

    >>> import numpy as np, qkernels as qk
    >>> packed = qk.pack_conv2d(np.ones((8, 3, 5, 5), np.float32), stride=2, padding="same")
    >>> packed.shape, packed.stride, packed.padding
    ((8, 3, 5, 5), (2, 2), 'same')
    """
    checks.choice(weight_layout, WEIGHT_LAYOUTS, "weight_layout")
    geometry = _geometry(stride, padding, dilation, groups)
    array = arrays.parameter(weight, "weight")
    if array.ndim != 4:
        raise QKernelsValueError(f"weight must be 4-D, {weight_layout}, not of shape {array.shape}")
    ohwi = array.transpose([weight_layout.index(letter) for letter in "OHWI"])
    channels, *kernel, _ = ohwi.shape
    if 0 in kernel:
        raise QKernelsValueError(f"weight of shape {array.shape} ({weight_layout}) has no taps")
    if channels % geometry.groups:
        raise QKernelsValueError(
            f"groups={geometry.groups} must divide the {channels} output channels of weight"
        )
    codes, scale = integer_weights(ohwi, weight_scale, weight_zero_point, 4, weight_layout)
    fields = channel_parameters(channels, codes.dtype.name, scale, weight_zero_point, bias)
    return PackedConv2d._make(
        _pack(codes, geometry.groups, fields["_zero_point"]),
        _geometry=geometry,
        _weight_layout=weight_layout,
        **fields,
    )


def _pack(ohwi: Array, groups: int, zero_point: ZeroPoint) -> _core.Packed:
    zero = forms.at_least_one(zero_point, np.int32(0)) if zero_point.any() else None
    try:
        return _core.Packed.conv(ohwi, groups, zero)
    except _core.CoreError as error:
        raise from_core(error, "pack_conv2d") from None


def _geometry(stride: Any, padding: Any, dilation: Any, groups: Any) -> Geometry:
    return Geometry(
        _pair(stride, "stride", 1),
        _padding(padding),
        _pair(dilation, "dilation", 1),
        checks.integer(groups, "groups", 1),
    )


def _pair(value: Any, name: str, low: int) -> tuple[int, int]:
    """An int for both, or (rows, columns)."""
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise QKernelsValueError(f"{name} must be an int or a pair, not {checks.shown(value)}")
        first, second = value
    else:
        first = second = value
    return (
        checks.integer(first, name, low, _LARGEST),
        checks.integer(second, name, low, _LARGEST),
    )


def _padding(value: Any) -> Pads | None:
    if isinstance(value, str):
        checks.choice(value, ("same",), "padding")
        return None
    if isinstance(value, tuple | list) and any(isinstance(end, tuple | list) for end in value):
        if len(value) != 2 or not all(isinstance(end, tuple | list) for end in value):
            raise QKernelsValueError(
                "padding must be an int, (rows, columns), ((top, bottom), (left, right)) or "
                f"'same', not {checks.shown(value)}"
            )
        return (*_pair(value[0], "padding", 0), *_pair(value[1], "padding", 0))
    rows, columns = _pair(value, "padding", 0)
    return rows, rows, columns, columns


def conv2d_int8(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    layout: str = "NHWC",
    x_scale: Any = None,
    x_zero_point: Any = 0,
    weight_scale: Any = None,
    weight_zero_point: Any = 0,
    weight_layout: str | None = None,
    stride: Any = None,
    padding: Any = None,
    dilation: Any = None,
    groups: int | None = None,
    out_scale: Any = None,
    out_zero_point: Any = 0,
    out_dtype: Any = None,
    activation: Any = None,
    rounding: str = "nearest_even",
    out: Any = None,
) -> Any:
    """2-D convolution in int8: exact int32 sums, one rounding to the output.

    x: (..., H, W, C) for layout "NHWC", (..., C, H, W) for "NCHW"; an unbatched image is fine.
    weight: packed by `pack_conv2d`, or 4-D with bias, weight_scale, weight_zero_point,
    weight_layout ("OIHW"), stride (1), padding (0), dilation (1) and groups (1) as there; these
    are refused beside a packed weight, which has its own.

    Forms of input and output, activation, rounding, out and errors are those of `linear_int8`; a
    float x without x_scale is quantized by the image. Padding is real zero, the byte x_zero_point.
    Memory in the order of NHWC (channels_last in torch) is read and written without a copy under
    either layout; the result of an NCHW call has the memory order of x. An output without rows or
    columns is an error.

    >>> import numpy as np, qkernels as qk
    >>> x = np.arange(9, dtype=np.int8).reshape(1, 3, 3, 1)
    >>> qk.conv2d_int8(x, np.ones((1, 1, 2, 2), np.int8))[0, ..., 0]
    array([[ 8, 12],
           [20, 24]], dtype=int32)
    """
    if type(weight) is not PackedConv2d:
        weight = pack_conv2d(
            weight,
            bias,
            weight_scale=weight_scale,
            weight_zero_point=weight_zero_point,
            weight_layout="OIHW" if weight_layout is None else weight_layout,
            stride=1 if stride is None else stride,
            padding=0 if padding is None else padding,
            dilation=1 if dilation is None else dilation,
            groups=1 if groups is None else groups,
        )
    elif not (
        bias is weight_scale is weight_layout is stride is padding is dilation is groups is None
        and type(weight_zero_point) is int
        and weight_zero_point == 0
    ):
        refuse_beside_packed(
            bias=bias, weight_scale=weight_scale, weight_zero_point=weight_zero_point
        )
        for name, value in (
            ("weight_layout", weight_layout),
            ("stride", stride),
            ("padding", padding),
            ("dilation", dilation),
            ("groups", groups),
        ):
            if value is not None:
                raise QKernelsValueError(
                    f"{name} is given beside a packed weight: it belongs in pack_conv2d"
                )
    fixed = (
        layout,
        x_scale,
        x_zero_point,
        out_scale,
        out_zero_point,
        out_dtype,
        activation,
        rounding,
    )
    key = (*fixed, *map(type, fixed))  # True equals 1, but is no zero point
    try:
        call = weight._calls.get(key)
    except TypeError:  # something unhashable, for example an array
        call = None
    if call is not None:
        return call(x, out)
    call = weight.bind(
        layout=layout,
        x_scale=x_scale,
        x_zero_point=x_zero_point,
        out_scale=out_scale,
        out_zero_point=out_zero_point,
        out_dtype=out_dtype,
        activation=activation,
        rounding=rounding,
    )
    if all(isinstance(part, PLAIN) for part in fixed):
        remember(weight._calls, key, lambda: call)
    return call(x, out)


def _bound(weights: PackedConv2d, layout: str, wanted: forms.Request) -> Call:
    """The callable of `bind`: a prepared op for each dtype of x and, under "same", each padding.
    What a shape of x has come to is kept: its op's `call`, which takes plain arrays whole in the
    core and gives None for any other x or out."""
    info, geometry = weights._info, weights._geometry
    kernel = (info["kh"], info["kw"])
    channels_in, channels_out = info["c"] * info["groups"], info["n"]
    packed, w_shape = weights._packed, weights.shape
    given = forms.Weights(weights._scale, weights._zero_point, weights._bias)
    del weights  # the callable is kept by the weights: no cycle
    known: dict[Any, tuple[_core.Conv2d, forms.Form]] = {}
    direct: dict[Any, Callable[[Any, Any], Array | None]] = {}

    def op_for(dtype: str, pads: Pads) -> tuple[_core.Conv2d, forms.Form]:
        def make(**arguments: Any) -> _core.Conv2d:
            if info["kind"] == "depthwise":  # removed when the weights were packed
                arguments.pop("w_zero_point", None)
            return _core.Conv2d(
                packed,
                stride=geometry.stride,
                dilation=geometry.dilation,
                padding=pads,
                **arguments,
            )

        def prepared() -> tuple[_core.Conv2d, forms.Form]:
            return prepare(make, "conv2d_int8", wanted, dtype, given)

        return remember(known, (dtype, pads), prepared)

    def conv2d(x: Any, out: Any = None) -> Any:
        if type(x) is np.ndarray:
            call = direct.get((x.dtype, x.shape))
            if call is not None:
                try:
                    result = call(x, out)
                except _core.CoreError as error:
                    raise from_core(error, "conv2d_int8") from None
                if result is not None:
                    return result
        return general(x, out)

    def general(x: Any, out: Any) -> Any:
        source = arrays.operand(x, "x")
        nhwc = _as_nhwc(source.data, layout, "x")
        *batch, height, width, channels = nhwc.shape
        if channels != channels_in:
            raise QKernelsValueError(
                f"x of shape {source.data.shape} ({layout}) has {channels} channels, but weight of "
                f"shape {w_shape} with groups={geometry.groups} expects {channels_in}"
            )
        pads = geometry.pads(kernel, (height, width))
        op, form = op_for(source.dtype, pads)
        reach = geometry.reach(kernel)
        rows = (height + pads[0] + pads[1] - reach[0]) // geometry.stride[0] + 1
        columns = (width + pads[2] + pads[3] - reach[1]) // geometry.stride[1] + 1
        if rows < 1 or columns < 1:
            raise QKernelsValueError(
                f"the output would have {max(rows, 0)} rows and {max(columns, 0)} columns: x has "
                f"{height} x {width} pixels, padding {pads}, the kernel spans {reach}"
            )
        if layout == "NHWC" and form.quantize is None and type(x) is np.ndarray:
            remember(direct, (x.dtype, x.shape), lambda: op.call)
        shape = (*batch, rows, columns, channels_out)
        into = None
        if out is not None:
            into = _as_nhwc(
                arrays.target(out, _layout_shape(shape, layout), form.out_dtype), layout, "out"
            )
        if form.quantize is not None:
            codes = quantize_operand(source, *form.quantize)
            nhwc = _as_nhwc(codes, layout, "x")
        count = math.prod(batch)
        image = _images(nhwc, count)
        result = None
        if into is not None and not arrays.overlaps(into, (nhwc,)):
            result = _images_in_place(into, count)
        written = result is not None
        if result is None:
            result = np.empty((count, rows, columns, channels_out), form.out_dtype)
        try:
            op.run(image, result)
        except _core.CoreError as error:
            raise from_core(error, "conv2d_int8") from None
        if into is None:
            return source.wrap(_as_given(result.reshape(shape), source.data, layout))
        if not written:
            np.copyto(into, result.reshape(shape))
        return out

    return conv2d


def _as_nhwc(array: Array, layout: str, name: str) -> Array:
    if array.ndim < 3:
        form = "(..., H, W, C)" if layout == "NHWC" else "(..., C, H, W)"
        raise QKernelsValueError(f"{name} must have shape {form}, not {array.shape}")
    return array if layout == "NHWC" else np.moveaxis(array, -3, -1)


def _layout_shape(nhwc: tuple[int, ...], layout: str) -> tuple[int, ...]:
    if layout == "NHWC":
        return nhwc
    *batch, height, width, channels = nhwc
    return (*batch, channels, height, width)


def _images(nhwc: Array, count: int) -> Array:
    """(count, H, W, C) with channels contiguous: a view where the strides allow it."""
    images = nhwc.reshape(count, *nhwc.shape[-3:])
    if arrays.last_axis_ready(images):
        return images
    return np.array(images, order="C", copy=True)


def _images_in_place(nhwc: Array, count: int) -> Array | None:
    """As `_images`, but only when no copy is needed: for outputs."""
    images = _images(nhwc, count)
    return images if images.size and np.may_share_memory(images, nhwc) else None


def _as_given(nhwc: Array, x: Array, layout: str) -> Array:
    """The result in the axes of `layout`, and for NCHW in the memory order of x."""
    if layout == "NHWC":
        return nhwc
    nchw = np.moveaxis(nhwc, -1, -3)
    channels_last = not x.flags.c_contiguous and x.strides[-3] == x.itemsize
    return nchw if channels_last else np.ascontiguousarray(nchw)

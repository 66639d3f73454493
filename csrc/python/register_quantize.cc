// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arrays.h"
#include "plain.h"

namespace qk_python {
namespace {

using FloatVector = py::array_t<float, py::array::c_style>;
using Shape3 = std::array<int64_t, 3>;

qk_shape3 shape_of(const Shape3& shape, const py::array& array) {
  require(shape[0] >= 0 && shape[1] >= 0 && shape[2] >= 0 &&
              shape[0] * shape[1] * shape[2] == array.size(),
          "shape3");
  return {shape[0], shape[1], shape[2]};
}

void check_pair(const py::array& from, const py::array& to) {
  require(c_contiguous(from) && c_contiguous(to), "arrays must be C-contiguous");
  require(from.size() == to.size(), "sizes");
  require(to.writeable(), "the destination is read-only");
}

void check_real(const py::array& x, qk_dtype dtype) {
  require(dtype >= QK_FLOAT32 && x.itemsize() == (dtype == QK_FLOAT32 ? 4 : 2), "x_dtype");
}

struct Codes {
  int32_t lo, hi;
  qk_dtype dtype;
};

// The codes of "int8", "uint4" ...
std::optional<Codes> codes_of(py::handle dtype) {
  static constexpr std::pair<const char*, Codes> kNames[] = {
      {"int8", {-128, 127, QK_INT8}}, {"uint8", {0, 255, QK_UINT8}}, {"int7", {-64, 63, QK_INT8}},
      {"uint7", {0, 127, QK_UINT8}},  {"int6", {-32, 31, QK_INT8}},  {"uint6", {0, 63, QK_UINT8}},
      {"int5", {-16, 15, QK_INT8}},   {"uint5", {0, 31, QK_UINT8}},  {"int4", {-8, 7, QK_INT8}},
      {"uint4", {0, 15, QK_UINT8}},   {"int3", {-4, 3, QK_INT8}},    {"uint3", {0, 7, QK_UINT8}},
      {"int2", {-2, 1, QK_INT8}},     {"uint2", {0, 3, QK_UINT8}}};
  for (const auto& [name, codes] : kNames) {
    if (is_text(dtype, name)) return codes;
  }
  return std::nullopt;
}

std::optional<qk_rounding> rounding_of(py::handle name) {
  if (is_text(name, "nearest_even")) return QK_NEAREST_EVEN;
  if (is_text(name, "fixed_point")) return QK_FIXED_POINT;
  if (is_text(name, "fixed_point_single")) return QK_FIXED_POINT_SINGLE;
  return std::nullopt;
}

PlainParameter<float> scale_of(py::handle value) {
  return {value, 0.0f, std::numeric_limits<float>::max()};
}

// A floating-point array; x_dtype names its dtype, or is None where NumPy's says it.
PlainArray real_array(py::handle x, py::handle x_dtype) {
  if (!x_dtype.is_none()) return PlainArray(x, dtype_of(py::cast<std::string>(x_dtype)));
  const PlainArray array(x);
  return array && array.dtype() >= QK_FLOAT32 ? array : PlainArray();
}

// An axis counted from the front; nothing for what is no axis of the array.
std::optional<int> axis_of(py::handle axis, int axes) {
  if (!PyLong_CheckExact(axis.ptr())) return std::nullopt;
  int overflow = 0;
  const int64_t at = PyLong_AsLongLongAndOverflow(axis.ptr(), &overflow);
  if (overflow != 0 || at < -axes || at >= axes) return std::nullopt;
  return static_cast<int>(at < 0 ? at + axes : at);
}

// What an element-wise function of a plain x does: parameters that are no scalars run along `axis`;
// the result goes to out, or where that is None to a new array. Null when anything is not plain,
// does not fit, or out shares memory with what is read.
class Pass {
 public:
  template <typename... Parameters>
  Pass(const PlainArray& x, py::handle axis, py::handle out, qk_dtype dtype,
       const Parameters&... parameters) {
    shape_ = {1, 1, x.size()};
    const bool scalars = (parameters.scalar() && ...);
    if (!axis.is_none()) {
      const std::optional<int> at = axis_of(axis, x.axes());
      if (!at || !((parameters.scalar() || parameters.length() == x.extent(*at)) && ...)) return;
      if (!scalars) shape_ = {x.extents(0, *at), x.extent(*at), x.extents(*at + 1, x.axes())};
    } else if (!scalars) {
      return;
    }
    if (out.is_none()) {
      result_ = x.like(dtype, x.axes());
      return;
    }
    const PlainArray target(out);
    if (!target || target.dtype() != dtype || !target.dense() || !target.writeable() ||
        !target.same_shape(x, x.axes())) {
      return;
    }
    const Span span = target.span();
    if (span.overlaps(x.span()) || (span.overlaps(parameters.span()) || ...)) return;
    result_ = py::reinterpret_borrow<py::object>(out);
  }

  explicit operator bool() const { return static_cast<bool>(result_); }
  const qk_shape3& shape() const { return shape_; }
  void* data() const { return PlainArray(result_).data(); }
  const py::object& result() const { return result_; }

 private:
  qk_shape3 shape_{};
  py::object result_;
};

py::object quantize(py::handle x, py::handle scale, py::handle zero_point, py::handle axis,
                    py::handle dtype, py::handle out, py::handle x_dtype) {
  const PlainArray from = real_array(x, x_dtype);
  const std::optional<Codes> codes = codes_of(dtype);
  if (!from || !from.dense() || !codes) return py::none();
  PlainParameter<float> scales = scale_of(scale);
  PlainParameter<int32_t> zeros(zero_point, codes->lo, codes->hi);
  if (!scales || !zeros) return py::none();
  const Pass pass(from, axis, out, codes->dtype, scales, zeros);
  if (!pass) return py::none();
  const qk_shape3 shape = pass.shape();
  const float* const s = scales.over(shape.channels);
  const int32_t* const z = zeros.over(shape.channels);
  void* const q = pass.data();
  const qk_status status = unlocked(
      [&] { return qk_quantize(from.data(), from.dtype(), shape, s, z, codes->lo, codes->hi, q); });
  if (status != QK_OK && x_dtype.is_none()) return py::none();
  raise_if_error(status);
  return pass.result();
}

py::object dequantize(py::handle q, py::handle scale, py::handle zero_point, py::handle axis,
                      py::handle out) {
  const PlainArray from(q);
  if (!from || from.dtype() >= QK_FLOAT32 || !from.dense()) return py::none();
  using Int32 = std::numeric_limits<int32_t>;
  const Codes codes = from.dtype() == QK_INT8    ? Codes{-128, 127, QK_INT8}
                      : from.dtype() == QK_UINT8 ? Codes{0, 255, QK_UINT8}
                                                 : Codes{Int32::min(), Int32::max(), QK_INT32};
  PlainParameter<float> scales = scale_of(scale);
  PlainParameter<int32_t> zeros(zero_point, codes.lo, codes.hi);
  if (!scales || !zeros) return py::none();
  const Pass pass(from, axis, out, QK_FLOAT32, scales, zeros);
  if (!pass) return py::none();
  const qk_shape3 shape = pass.shape();
  const float* const s = scales.over(shape.channels);
  const int32_t* const z = zeros.over(shape.channels);
  auto* const x = static_cast<float*>(pass.data());
  raise_if_error(
      unlocked([&] { return qk_dequantize(from.data(), from.dtype(), shape, s, z, x); }));
  return pass.result();
}

py::object requantize(py::handle acc, py::handle scale, py::handle zero_point, py::handle axis,
                      py::handle bias, py::handle dtype, py::handle activation, py::handle rounding,
                      py::handle out) {
  const PlainArray from(acc);
  const std::optional<Codes> codes = codes_of(dtype);
  const std::optional<qk_rounding> mode = rounding_of(rounding);
  const bool relu = is_text(activation, "relu");
  if (!from || from.dtype() != QK_INT32 || !from.dense() || !codes ||
      codes->hi - codes->lo != 255 || !mode || (!relu && !activation.is_none())) {
    return py::none();
  }
  using Int32 = std::numeric_limits<int32_t>;
  PlainParameter<float> multipliers = scale_of(scale);
  const PlainParameter<int32_t> zero(zero_point, codes->lo, codes->hi);
  PlainParameter<int32_t> addends;
  if (!bias.is_none()) addends = {bias, Int32::min(), Int32::max()};
  if (!multipliers || !zero || !zero.scalar() || !addends) return py::none();
  const Pass pass(from, axis, out, codes->dtype, multipliers, addends);
  if (!pass) return py::none();
  const qk_shape3 shape = pass.shape();
  const auto* const sums = static_cast<const int32_t*>(from.data());
  const float* const m = multipliers.over(shape.channels);
  const int32_t* const b = bias.is_none() ? nullptr : addends.over(shape.channels);
  const int32_t lo = relu ? std::max(codes->lo, zero.number()) : codes->lo;
  void* const q = pass.data();
  raise_if_error(unlocked(
      [&] { return qk_requantize(sums, shape, m, zero.number(), b, *mode, lo, codes->hi, q); }));
  return pass.result();
}

// An array without axes as the scalar that NumPy makes of it.
py::object scalar_of(const py::array& array) {
  if (array.ndim() > 0) return array;
  auto scalar = py::reinterpret_steal<py::object>(PyObject_GetItem(array.ptr(), py::tuple().ptr()));
  if (!scalar) throw py::error_already_set();
  return scalar;
}

py::object dynamic_quantize(py::handle x, py::handle granularity, py::handle scheme,
                            py::handle x_dtype) {
  const PlainArray from = real_array(x, x_dtype);
  const bool per_row = is_text(granularity, "per_row");
  const bool symmetric = is_text(scheme, "symmetric");
  if (!from || !from.dense() ||
      (per_row ? from.axes() == 0 : !is_text(granularity, "per_tensor")) ||
      (!symmetric && !is_text(scheme, "asymmetric"))) {
    return py::none();
  }
  const int axes = per_row ? from.axes() - 1 : 0;
  const int64_t rows = from.extents(0, axes);
  const int64_t columns = from.extents(axes, from.axes());
  const qk_dtype code = symmetric ? QK_INT8 : QK_UINT8;
  const py::array q = from.like(code, from.axes());
  const py::array scale = from.like(QK_FLOAT32, axes);
  const py::array zero_point = from.like(code, axes);
  void* const codes = PlainArray(q).data();
  auto* const scales = static_cast<float*>(PlainArray(scale).data());
  auto* const narrow = static_cast<uint8_t*>(PlainArray(zero_point).data());
  std::vector<int32_t> zeros(symmetric ? 0 : static_cast<size_t>(rows));
  const qk_status status = unlocked([&] {
    return qk_dynamic_quantize(from.data(), from.dtype(), rows, columns, symmetric ? 1 : 0, codes,
                               scales, zeros.data());
  });
  if (status != QK_OK && x_dtype.is_none()) return py::none();
  raise_if_error(status);
  if (symmetric) std::fill_n(narrow, rows, uint8_t{0});
  std::transform(zeros.begin(), zeros.end(), narrow,
                 [](int32_t z) { return static_cast<uint8_t>(z); });
  return py::make_tuple(q, scalar_of(scale), scalar_of(zero_point));
}

void quantize_weights(const py::array& w, const Shape3& shape3, py::array q, FloatVector scale) {
  check_pair(w, q);
  const qk_shape3 shape = shape_of(shape3, w);
  require(dtype_of(w) == QK_FLOAT32 && dtype_of(q) == QK_INT8, "w, q");
  require(scale.size() == shape.channels && scale.writeable(), "scale");
  const auto* from = static_cast<const float*>(w.data());
  auto* to = static_cast<int8_t*>(q.mutable_data());
  float* const scales = scale.mutable_data();
  qk_status status = QK_OK;
  {
    const py::gil_scoped_release release;
    status = qk_quantize_weights(from, shape, to, scales);
  }
  raise_if_error(status);
}

std::array<float, 3> value_range(const py::array& x, const std::string& x_dtype) {
  const qk_dtype dtype = dtype_of(x_dtype);
  check_real(x, dtype);
  require(c_contiguous(x), "x must be C-contiguous");
  std::array<float, 3> result{};
  const void* from = x.data();
  const int64_t size = x.size();
  qk_status status = QK_OK;
  {
    const py::gil_scoped_release release;
    status = qk_range(from, dtype, size, result.data());
  }
  raise_if_error(status);
  return result;
}

}  // namespace

void register_quantize(py::module_& module) {
  module.def("quantize", quantize, py::arg("x"), py::arg("scale"), py::arg("zero_point"),
             py::arg("axis"), py::arg("dtype"), py::arg("out"), py::arg("x_dtype") = py::none());
  module.def("dequantize", dequantize, py::arg("q"), py::arg("scale"), py::arg("zero_point"),
             py::arg("axis"), py::arg("out"));
  module.def("requantize", requantize, py::arg("acc"), py::arg("scale"), py::arg("zero_point"),
             py::arg("axis"), py::arg("bias"), py::arg("dtype"), py::arg("activation"),
             py::arg("rounding"), py::arg("out"));
  module.def("dynamic_quantize", dynamic_quantize, py::arg("x"), py::arg("granularity"),
             py::arg("scheme"), py::arg("x_dtype") = py::none());
  module.def("quantize_weights", quantize_weights, py::arg("w"), py::arg("shape3"), py::arg("q"),
             py::arg("scale").noconvert());
  module.def("value_range", value_range, py::arg("x"), py::arg("x_dtype"));
}

}  // namespace qk_python

// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include <array>
#include <optional>

#include "arrays.h"

namespace qk_python {
namespace {

using FloatVector = py::array_t<float, py::array::c_style>;
using Int32Vector = py::array_t<int32_t, py::array::c_style>;
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

void quantize(const py::array& x, const std::string& x_dtype, const Shape3& shape3,
              const FloatVector& scale, const Int32Vector& zero_point, int32_t lo, int32_t hi,
              py::array q) {
  const qk_dtype dtype = dtype_of(x_dtype);
  check_pair(x, q);
  check_real(x, dtype);
  const qk_shape3 shape = shape_of(shape3, x);
  require(q.itemsize() == 1, "q");
  require(scale.size() == shape.channels && zero_point.size() == shape.channels, "scale");
  const void* from = x.data();
  void* to = q.mutable_data();
  qk_status status = QK_OK;
  {
    const py::gil_scoped_release release;
    status = qk_quantize(from, dtype, shape, scale.data(), zero_point.data(), lo, hi, to);
  }
  raise_if_error(status);
}

void dequantize(const py::array& q, const Shape3& shape3, const FloatVector& scale,
                const Int32Vector& zero_point, py::array x) {
  check_pair(q, x);
  const qk_dtype dtype = dtype_of(q);
  const qk_shape3 shape = shape_of(shape3, q);
  require(dtype_of(x) == QK_FLOAT32, "x");
  require(scale.size() == shape.channels && zero_point.size() == shape.channels, "scale");
  const void* from = q.data();
  auto* to = static_cast<float*>(x.mutable_data());
  qk_status status = QK_OK;
  {
    const py::gil_scoped_release release;
    status = qk_dequantize(from, dtype, shape, scale.data(), zero_point.data(), to);
  }
  raise_if_error(status);
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

void dynamic_quantize(const py::array& x, const std::string& x_dtype, int64_t rows, int64_t cols,
                      bool symmetric, py::array q, FloatVector scale,
                      std::optional<Int32Vector> zero_point) {
  const qk_dtype dtype = dtype_of(x_dtype);
  check_pair(x, q);
  check_real(x, dtype);
  require(rows >= 0 && cols >= 0 && rows * cols == x.size() && q.itemsize() == 1, "rows, cols");
  require(scale.size() == rows && scale.writeable(), "scale");
  require(symmetric || (zero_point && zero_point->size() == rows && zero_point->writeable()),
          "zero_point");
  const void* from = x.data();
  void* to = q.mutable_data();
  float* scales = scale.mutable_data();
  int32_t* zeros = zero_point ? zero_point->mutable_data() : nullptr;
  qk_status status = QK_OK;
  {
    const py::gil_scoped_release release;
    status = qk_dynamic_quantize(from, dtype, rows, cols, symmetric ? 1 : 0, to, scales, zeros);
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

void requantize(const Int32Vector& acc, const Shape3& shape3, const FloatVector& multiplier,
                int32_t zero_point, const std::optional<Int32Vector>& bias,
                const std::string& rounding, int32_t lo, int32_t hi, py::array out) {
  check_pair(acc, out);
  const qk_shape3 shape = shape_of(shape3, acc);
  require(out.itemsize() == 1, "out");
  require(multiplier.size() == shape.channels, "multiplier");
  require(!bias || bias->size() == shape.channels, "bias");
  const qk_rounding mode = rounding == "fixed_point"          ? QK_FIXED_POINT
                           : rounding == "fixed_point_single" ? QK_FIXED_POINT_SINGLE
                                                              : QK_NEAREST_EVEN;
  require(mode != QK_NEAREST_EVEN || rounding == "nearest_even", "rounding");
  void* to = out.mutable_data();
  qk_status status = QK_OK;
  {
    const py::gil_scoped_release release;
    status = qk_requantize(acc.data(), shape, multiplier.data(), zero_point,
                           bias ? bias->data() : nullptr, mode, lo, hi, to);
  }
  raise_if_error(status);
}

}  // namespace

void register_quantize(py::module_& module) {
  module.def("quantize", quantize, py::arg("x"), py::arg("x_dtype"), py::arg("shape3"),
             py::arg("scale"), py::arg("zero_point"), py::arg("lo"), py::arg("hi"), py::arg("q"));
  module.def("dequantize", dequantize, py::arg("q"), py::arg("shape3"), py::arg("scale"),
             py::arg("zero_point"), py::arg("x"));
  module.def("quantize_weights", quantize_weights, py::arg("w"), py::arg("shape3"), py::arg("q"),
             py::arg("scale").noconvert());
  module.def("dynamic_quantize", dynamic_quantize, py::arg("x"), py::arg("x_dtype"),
             py::arg("rows"), py::arg("cols"), py::arg("symmetric"), py::arg("q"),
             py::arg("scale").noconvert(), py::arg("zero_point").noconvert().none(true));
  module.def("value_range", value_range, py::arg("x"), py::arg("x_dtype"));
  module.def("requantize", requantize, py::arg("acc"), py::arg("shape3"), py::arg("multiplier"),
             py::arg("zero_point"), py::arg("bias").none(true), py::arg("rounding"), py::arg("lo"),
             py::arg("hi"), py::arg("out"));
}

}  // namespace qk_python

// SPDX-License-Identifier: Apache-2.0
//
// What the binding files share: NumPy arrays to pointers, names to codes, status to exceptions.
#ifndef QKERNELS_PYTHON_ARRAYS_H
#define QKERNELS_PYTHON_ARRAYS_H

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <optional>
#include <string>

#include "qkernels/qkernels.h"

namespace qk_python {

namespace py = pybind11;

// Raises CoreError(code, message), or MemoryError.
void raise_if_error(qk_status status);

// "int8" -> QK_INT8 ...; ValueError for any other name.
qk_dtype dtype_of(const std::string& name);
// The dtype of an array of int8, uint8, int32 or float32.
qk_dtype dtype_of(const py::array& array);
// The dtype of the core that has these elements in any byte order; nothing for another. bfloat16
// is never found, as NumPy has none.
std::optional<qk_dtype> core_dtype(const py::dtype& dtype);
// Bytes an element.
size_t itemsize(qk_dtype dtype);

// The status of a call of the C API, made without the GIL.
template <typename Call>
qk_status unlocked(const Call& call) {
  const py::gil_scoped_release release;
  return call();
}

// Throws ValueError with `what` unless it holds: the Python layer has checked, this guards memory.
void require(bool condition, const char* what);

// Is the last axis contiguous (or of at most one element)?
bool contiguous_last(const py::array& array);
bool c_contiguous(const py::array& array);

// The output arguments of Linear and Conv2d from their keyword arguments; keeps the arrays alive.
struct OutputArguments {
  qk_output output{};
  py::array_t<float> w_scale, bias_f;
  py::array_t<int32_t> w_zero_point, bias_i;

  OutputArguments(const py::kwargs& kwargs, int64_t columns);
};

void register_machine(py::module_& module);
void register_packed(py::module_& module);
void register_ops(py::module_& module);
void register_quantize(py::module_& module);
void register_probe(py::module_& module);

// The packed weights behind a Python object.
class Packed {
 public:
  explicit Packed(qk_packed* handle, py::object keep_alive = py::none())
      : handle_(handle), keep_alive_(std::move(keep_alive)) {}
  ~Packed() { qk_packed_free(handle_); }
  Packed(const Packed&) = delete;
  Packed& operator=(const Packed&) = delete;

  const qk_packed* get() const { return handle_; }
  qk_packed_info info() const {
    qk_packed_info info{};
    qk_packed_describe(handle_, &info);
    return info;
  }

 private:
  qk_packed* handle_;
  py::object keep_alive_;  // owner of the bytes, where they are not our own
};

}  // namespace qk_python

#endif  // QKERNELS_PYTHON_ARRAYS_H

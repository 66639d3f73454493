// SPDX-License-Identifier: Apache-2.0
#include "arrays.h"

#include <limits>
#include <new>
#include <utility>

namespace qk_python {
namespace {

const char* code_of(qk_status status) {
  switch (status) {
    case QK_INVALID_ARGUMENT:
      return "invalid_argument";
    case QK_UNSUPPORTED:
      return "unsupported";
    case QK_DAMAGED:
      return "damaged";
    case QK_OVERFLOW:
      return "overflow";
    case QK_NAN:
      return "nan";
    case QK_NOT_FINITE:
      return "not_finite";
    case QK_OTHER_LAYOUT:
      return "other_layout";
    case QK_OK:
    case QK_OUT_OF_MEMORY:
      break;
  }
  return "internal";
}

template <typename T>
T take(const py::dict& kwargs, const char* name, T otherwise) {
  return kwargs.contains(name) ? kwargs[name].cast<T>() : std::move(otherwise);
}

template <typename T>
py::array_t<T> vector_of(const py::dict& kwargs, const char* name, int64_t columns, bool scalar) {
  if (!kwargs.contains(name) || kwargs[name].is_none()) return py::array_t<T>(0);
  auto values = kwargs[name].cast<py::array_t<T, py::array::c_style>>();
  require(values.ndim() == 1 && (values.size() == columns || (scalar && values.size() == 1)), name);
  return values;
}

}  // namespace

void raise_if_error(qk_status status) {
  if (status == QK_OK) return;
  if (status == QK_OUT_OF_MEMORY) throw std::bad_alloc();
  const py::object error = py::module_::import("qkernels._core").attr("CoreError");
  PyErr_SetObject(error.ptr(), py::make_tuple(code_of(status), qk_last_message()).ptr());
  throw py::error_already_set();
}

void require(bool condition, const char* what) {
  if (!condition) throw py::value_error(std::string("bad argument to the core: ") + what);
}

qk_dtype dtype_of(const std::string& name) {
  if (name == "int8") return QK_INT8;
  if (name == "uint8") return QK_UINT8;
  if (name == "int32") return QK_INT32;
  if (name == "float32") return QK_FLOAT32;
  if (name == "float16") return QK_FLOAT16;
  if (name == "bfloat16") return QK_BFLOAT16;
  throw py::value_error("unknown dtype '" + name + "'");
}

qk_dtype dtype_of(const py::array& array) {
  const std::optional<qk_dtype> dtype = core_dtype(array.dtype());
  if (dtype && *dtype != QK_FLOAT16) return *dtype;
  throw py::value_error("expected an array of int8, uint8, int32 or float32");
}

std::optional<qk_dtype> core_dtype(const py::dtype& dtype) {
  const char kind = dtype.kind();
  switch (dtype.itemsize()) {
    case 1:
      if (kind == 'i') return QK_INT8;
      if (kind == 'u') return QK_UINT8;
      break;
    case 2:
      if (kind == 'f') return QK_FLOAT16;
      break;
    case 4:
      if (kind == 'i') return QK_INT32;
      if (kind == 'f') return QK_FLOAT32;
      break;
    default:
      break;
  }
  return std::nullopt;
}

size_t itemsize(qk_dtype dtype) {
  return dtype == QK_INT8 || dtype == QK_UINT8      ? 1
         : dtype == QK_INT32 || dtype == QK_FLOAT32 ? 4
                                                    : 2;
}

bool contiguous_last(const py::array& array) {
  const auto last = array.ndim() - 1;
  return array.ndim() > 0 && (array.shape(last) <= 1 || array.strides(last) == array.itemsize());
}

bool c_contiguous(const py::array& array) {
  return array.size() == 0 || (array.flags() & py::array::c_style) != 0;
}

OutputArguments::OutputArguments(const py::kwargs& kwargs, int64_t columns) {
  static const char* const known[] = {
      "x_dtype",       "out_dtype", "x_scale",        "x_zero_point", "w_scale",    "w_zero_point",
      "bias",          "out_scale", "out_zero_point", "rounding",     "activation", "activation_lo",
      "activation_hi", "stride",    "dilation",       "padding"};
  for (const auto& item : kwargs) {
    const auto name = item.first.cast<std::string>();
    bool found = false;
    for (const char* const candidate : known) found = found || name == candidate;
    if (!found) throw py::type_error("unexpected keyword argument '" + name + "'");
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  output.x_dtype = dtype_of(kwargs["x_dtype"].cast<std::string>());
  output.out_dtype = dtype_of(kwargs["out_dtype"].cast<std::string>());
  output.x_scale = take(kwargs, "x_scale", 0.0f);
  output.x_zero_point = take(kwargs, "x_zero_point", 0);
  output.out_scale = take(kwargs, "out_scale", 0.0f);
  output.out_zero_point = take(kwargs, "out_zero_point", 0);
  w_scale = vector_of<float>(kwargs, "w_scale", columns, true);
  w_zero_point = vector_of<int32_t>(kwargs, "w_zero_point", columns, true);
  if (w_scale.size() > 0) output.w_scale = w_scale.data();
  output.n_w_scale = static_cast<size_t>(w_scale.size());
  if (w_zero_point.size() > 0) output.w_zero_point = w_zero_point.data();
  output.n_w_zero_point = static_cast<size_t>(w_zero_point.size());
  if (kwargs.contains("bias") && !kwargs["bias"].is_none() && columns > 0) {
    const auto bias = kwargs["bias"].cast<py::array>();
    if (dtype_of(bias) == QK_FLOAT32) {
      bias_f = vector_of<float>(kwargs, "bias", columns, false);
      output.bias_f = bias_f.data();
    } else {
      bias_i = vector_of<int32_t>(kwargs, "bias", columns, false);
      output.bias_i = bias_i.data();
    }
  }
  const auto rounding = take<std::string>(kwargs, "rounding", "nearest_even");
  output.rounding = rounding == "fixed_point"          ? QK_FIXED_POINT
                    : rounding == "fixed_point_single" ? QK_FIXED_POINT_SINGLE
                                                       : QK_NEAREST_EVEN;
  require(output.rounding != QK_NEAREST_EVEN || rounding == "nearest_even", "rounding");
  static const char* const activations[] = {"identity", "clip",    "gelu",     "silu",
                                            "tanh",     "sigmoid", "hardswish"};
  const auto activation = take<std::string>(kwargs, "activation", "identity");
  bool known_activation = false;
  for (int i = 0; i < 7; ++i) {
    if (activation != activations[i]) continue;
    output.activation = static_cast<qk_activation>(i);
    known_activation = true;
  }
  require(known_activation, "activation");
  output.activation_lo = take(kwargs, "activation_lo", -kInfinity);
  output.activation_hi = take(kwargs, "activation_hi", kInfinity);
}

}  // namespace qk_python

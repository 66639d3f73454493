// SPDX-License-Identifier: Apache-2.0
#include "plain.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "arrays.h"

namespace qk_python {
namespace {

using Numpy = py::detail::npy_api;

py::dtype numpy_dtype(qk_dtype dtype) {
  switch (dtype) {
    case QK_INT8:
      return py::dtype::of<int8_t>();
    case QK_UINT8:
      return py::dtype::of<uint8_t>();
    case QK_INT32:
      return py::dtype::of<int32_t>();
    default:
      return py::dtype::of<float>();
  }
}

// Is it a NumPy scalar of this very type?
template <typename T>
bool is_numpy_scalar(py::handle value) {
  const py::dtype dtype = py::dtype::of<T>();
  const PyObject* const type = py::detail::array_descriptor_proxy(dtype.ptr())->typeobj;
  return static_cast<const void*>(Py_TYPE(value.ptr())) == type;
}

std::optional<int64_t> integer(py::handle number) {
  int overflow = 0;
  const int64_t result = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  return overflow == 0 ? std::optional<int64_t>(result) : std::nullopt;
}

// Scales are positive, so their lower bound is left out, and comparing with it finds a denormal
// number that this thread flushes to zero.
bool inside(float value, float lo, float hi) { return (value > lo) & (value <= hi); }
bool inside(int32_t value, int32_t lo, int32_t hi) { return value >= lo && value <= hi; }

// A number of a type that is surely meant as one: bool is none.
std::optional<float> number_of(py::handle value, float hi) {
  if (PyFloat_CheckExact(value.ptr()) || is_numpy_scalar<float>(value) ||
      is_numpy_scalar<double>(value)) {
    const double real = PyFloat_AsDouble(value.ptr());
    if (real <= hi) return static_cast<float>(real);
  } else if (PyLong_CheckExact(value.ptr())) {
    if (const auto whole = integer(value)) return static_cast<float>(*whole);
  }
  return std::nullopt;
}

std::optional<int32_t> number_of(py::handle value, int32_t hi) {
  std::optional<int64_t> whole;
  if (PyLong_CheckExact(value.ptr())) {
    whole = integer(value);
  } else if (is_numpy_scalar<int8_t>(value) || is_numpy_scalar<uint8_t>(value) ||
             is_numpy_scalar<int32_t>(value) || is_numpy_scalar<int64_t>(value)) {
    whole = integer(py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr())));
  }
  if (!whole || *whole < std::numeric_limits<int32_t>::min() || *whole > hi) return std::nullopt;
  return static_cast<int32_t>(*whole);
}

qk_dtype dtype_for(float) { return QK_FLOAT32; }
qk_dtype dtype_for(int32_t) { return QK_INT32; }

}  // namespace

PlainArray::PlainArray(py::handle object, std::optional<qk_dtype> dtype) {
  if (Py_TYPE(object.ptr()) != Numpy::get().PyArray_Type_) return;
  const auto* array = py::detail::array_proxy(object.ptr());
  const auto descriptor = py::reinterpret_borrow<py::dtype>(array->descr);
  if (!dtype) dtype = core_dtype(descriptor);
  if (!dtype || static_cast<size_t>(descriptor.itemsize()) != itemsize(*dtype) ||
      descriptor.byteorder() == '>' || (array->flags & Numpy::NPY_ARRAY_ALIGNED_) == 0) {
    return;
  }
  array_ = array;
  dtype_ = *dtype;
}

bool PlainArray::dense() const { return (array_->flags & Numpy::NPY_ARRAY_C_CONTIGUOUS_) != 0; }

bool PlainArray::writeable() const { return (array_->flags & Numpy::NPY_ARRAY_WRITEABLE_) != 0; }

int64_t PlainArray::extents(int first, int end) const {
  int64_t product = 1;
  for (int axis = first; axis < end; ++axis) product *= extent(axis);
  return product;
}

Span PlainArray::span() const {
  const auto* const first = static_cast<const uint8_t*>(data());
  return {first, first + static_cast<size_t>(size()) * itemsize(dtype_)};
}

bool PlainArray::same_shape(const PlainArray& other, int axes) const {
  return array_->nd == other.array_->nd &&
         std::equal(array_->dimensions, array_->dimensions + axes, other.array_->dimensions);
}

py::array PlainArray::like(qk_dtype dtype, int axes, std::initializer_list<int64_t> more) const {
  std::vector<py::ssize_t> shape(array_->dimensions, array_->dimensions + axes);
  shape.insert(shape.end(), more.begin(), more.end());
  return py::array(numpy_dtype(dtype), std::move(shape));
}

template <typename T>
PlainParameter<T>::PlainParameter(py::handle value, T lo, T hi) {
  if (const std::optional<T> number = number_of(value, hi)) {
    number_ = *number;
    plain_ = inside(number_, lo, hi);
    return;
  }
  const PlainArray array(value);
  if (!array || array.dtype() != dtype_for(T{}) || array.axes() > 1 || !array.dense()) return;
  const auto* const elements = static_cast<const T*>(array.data());
  const int64_t size = array.size();
  int outside = 0;  // no early end: for the vectors
  for (int64_t i = 0; i < size; ++i) outside |= static_cast<int>(!inside(elements[i], lo, hi));
  if (outside != 0) return;
  plain_ = true;
  if (array.axes() == 0) {
    number_ = *elements;
  } else {
    vector_ = elements;
    length_ = size;
  }
}

template <typename T>
Span PlainParameter<T>::span() const {
  const void* const first = vector_;
  const void* const end = scalar() ? vector_ : vector_ + length_;
  return {static_cast<const uint8_t*>(first), static_cast<const uint8_t*>(end)};
}

template <typename T>
const T* PlainParameter<T>::over(int64_t channels) {
  if (!scalar()) return vector_;
  if (channels == 1) return &number_;
  spread_.assign(static_cast<size_t>(channels), number_);
  return spread_.data();
}

template class PlainParameter<float>;
template class PlainParameter<int32_t>;

bool is_text(py::handle value, const char* text) {
  return PyUnicode_Check(value.ptr()) && PyUnicode_CompareWithASCIIString(value.ptr(), text) == 0;
}

}  // namespace qk_python

// SPDX-License-Identifier: Apache-2.0
//
// Arguments that the core can use as they are, read straight from the Python objects: the short
// way of a call. Nothing here raises. Whatever is not plain goes the long way, through Python, where
// it is converted or refused in words.
#ifndef QKERNELS_PYTHON_PLAIN_H
#define QKERNELS_PYTHON_PLAIN_H

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <optional>
#include <vector>

#include "qkernels/qkernels.h"

namespace qk_python {

namespace py = pybind11;

// The bytes from `first` up to `end`.
struct Span {
  const uint8_t* first = nullptr;
  const uint8_t* end = nullptr;

  bool overlaps(const Span& other) const {
    return first < end && other.first < other.end && first < other.end && other.first < end;
  }
};

// An array of NumPy's own type, no subclass, of one of the core's dtypes in native byte order,
// aligned. False when the object is anything else; `object` must outlive it.
class PlainArray {
 public:
  PlainArray() = default;
  // `dtype`: what the elements are taken for where NumPy's dtype does not say it: float16 and
  // bfloat16 that travel as uint16.
  explicit PlainArray(py::handle object, std::optional<qk_dtype> dtype = std::nullopt);

  explicit operator bool() const { return array_ != nullptr; }
  qk_dtype dtype() const { return dtype_; }
  int axes() const { return array_->nd; }
  int64_t extent(int axis) const { return array_->dimensions[axis]; }
  ptrdiff_t stride(int axis) const { return array_->strides[axis]; }
  void* data() const { return array_->data; }
  bool dense() const;  // C-contiguous
  bool writeable() const;
  int64_t size() const { return extents(0, axes()); }
  int64_t extents(int first, int end) const;  // the product of those axes
  Span span() const;                          // of a dense array
  // As many axes, and the same extents in the first `axes`.
  bool same_shape(const PlainArray& other, int axes) const;
  // A new array with the extents of the first `axes` axes, and more axes after them.
  py::array like(qk_dtype dtype, int axes, std::initializer_list<int64_t> more = {}) const;

 private:
  const py::detail::PyArray_Proxy* array_ = nullptr;
  qk_dtype dtype_ = QK_FLOAT32;
};

// A scale, zero point or bias: a number of Python or NumPy, or a plain dense array of T with one
// axis or none; every element in [lo, hi], of scales in (lo, hi].
template <typename T>
class PlainParameter {
 public:
  PlainParameter() : plain_(true) {}  // the number 0
  PlainParameter(py::handle value, T lo, T hi);

  explicit operator bool() const { return plain_; }
  bool scalar() const { return length_ == kScalar; }
  T number() const { return number_; }
  int64_t length() const { return length_; }
  Span span() const;
  // An element a channel.
  const T* over(int64_t channels);

 private:
  bool plain_ = false;
  T number_{};
  const T* vector_ = nullptr;
  int64_t length_ = kScalar;
  std::vector<T> spread_;

  static constexpr int64_t kScalar = -1;
};

extern template class PlainParameter<float>;
extern template class PlainParameter<int32_t>;

// Is it this very string?
bool is_text(py::handle value, const char* text);

}  // namespace qk_python

#endif  // QKERNELS_PYTHON_PLAIN_H

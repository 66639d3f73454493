// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "arrays.h"
#include "plain.h"

namespace qk_python {
namespace {

using Int32Vector = py::array_t<int32_t, py::array::c_style>;

// The bytes of x and out must be what the prepared op will touch.
void check_io(const py::array& x, const py::array& out, const qk_output& output, int axes) {
  require(x.ndim() == axes && out.ndim() == axes, "number of axes");
  require(static_cast<size_t>(x.itemsize()) == itemsize(output.x_dtype), "dtype of x");
  require(static_cast<size_t>(out.itemsize()) == itemsize(output.out_dtype), "dtype of out");
  require(x.size() == 0 || contiguous_last(x), "last axis of x");
  require(out.size() == 0 || contiguous_last(out), "last axis of out");
  require(out.writeable(), "out is read-only");
}

// A plain array of this dtype, not empty, whose last axis has `last` contiguous elements and whose
// rows lie at one distance: what a prepared op takes as it is.
struct PlainRows {
  bool plain = false;
  uint8_t* data = nullptr;
  int64_t rows = 1;
  ptrdiff_t stride = 0;

  PlainRows(const PlainArray& array, qk_dtype dtype, int64_t last) {
    if (!array || array.dtype() != dtype || array.axes() < 1 || array.size() == 0) return;
    const int axes = array.axes();
    const auto step = static_cast<ptrdiff_t>(itemsize(dtype));
    if (array.extent(axes - 1) != last || (last > 1 && array.stride(axes - 1) != step)) return;
    stride = axes > 1 ? array.stride(axes - 2) : 0;
    ptrdiff_t expected = stride;
    for (int axis = axes - 2; axis >= 0; --axis) {
      const int64_t extent = array.extent(axis);
      if (extent > 1 && array.stride(axis) != expected) {
        if (rows > 1) return;
        expected = stride = array.stride(axis);  // the axes inside have one element
      }
      rows *= extent;
      expected *= extent;
    }
    data = static_cast<uint8_t*>(array.data());
    plain = true;
  }

  Span span(size_t row_bytes) const {
    const ptrdiff_t last = (rows - 1) * stride;
    return {data + std::min<ptrdiff_t>(last, 0), data + std::max<ptrdiff_t>(last, 0) + row_bytes};
  }
};

class Linear {
 public:
  Linear(std::shared_ptr<Packed> packed, const py::kwargs& kwargs) : packed_(std::move(packed)) {
    const qk_packed_info info = packed_->info();
    n_ = info.n;
    k_ = info.k;
    const OutputArguments arguments(kwargs, n_);
    output_ = arguments.output;
    raise_if_error(qk_linear_prepare(packed_->get(), &arguments.output, &op_));
  }
  ~Linear() { qk_linear_free(op_); }
  Linear(const Linear&) = delete;
  Linear& operator=(const Linear&) = delete;

  void run(const py::array& x, py::array out,
           const std::optional<Int32Vector>& row_zero_point) const {
    check_io(x, out, output_, 2);
    require(x.shape(1) == k_ && out.shape(1) == n_ && x.shape(0) == out.shape(0), "shapes");
    require(!row_zero_point || row_zero_point->size() == x.shape(0), "row_zero_point");
    const int64_t m = x.shape(0);
    const void* from = x.data();
    void* to = out.mutable_data();
    const ptrdiff_t x_stride = x.strides(0);
    const ptrdiff_t out_stride = out.strides(0);
    const int32_t* zero = row_zero_point ? row_zero_point->data() : nullptr;
    qk_status status = QK_OK;
    {
      const py::gil_scoped_release release;
      status = qk_linear_run(op_, m, from, x_stride, to, out_stride, zero);
    }
    raise_if_error(status);
  }

  // The op on plain arrays, whole: out or a new array; None when an array is not plain, or the two
  // may overlap, and the general way through Python must be taken.
  py::object call(py::handle x, py::handle out) const {
    const PlainArray source(x);
    const PlainRows from(source, output_.x_dtype, k_);
    if (!from.plain) return py::none();
    py::object result = out.is_none() ? source.like(output_.out_dtype, source.axes() - 1, {n_})
                                      : py::reinterpret_borrow<py::object>(out);
    const PlainArray target(result);
    const PlainRows to(target, output_.out_dtype, n_);
    const size_t x_bytes = static_cast<size_t>(k_) * itemsize(output_.x_dtype);
    const size_t out_bytes = static_cast<size_t>(n_) * itemsize(output_.out_dtype);
    if (!to.plain || !target.writeable() || !source.same_shape(target, source.axes() - 1) ||
        (to.stride == 0 && to.rows > 1) || from.span(x_bytes).overlaps(to.span(out_bytes))) {
      return py::none();
    }
    raise_if_error(unlocked([&] {
      return qk_linear_run(op_, from.rows, from.data, from.stride, to.data, to.stride, nullptr);
    }));
    return result;
  }

 private:
  std::shared_ptr<Packed> packed_;
  qk_output output_{};
  int64_t n_ = 0;
  int64_t k_ = 0;
  qk_linear* op_ = nullptr;
};

class Conv2d {
 public:
  Conv2d(std::shared_ptr<Packed> packed, const py::kwargs& kwargs) : packed_(std::move(packed)) {
    info_ = packed_->info();
    const OutputArguments arguments(kwargs, info_.n);
    output_ = arguments.output;
    const auto stride = kwargs["stride"].cast<std::array<int64_t, 2>>();
    const auto dilation = kwargs["dilation"].cast<std::array<int64_t, 2>>();
    const auto padding = kwargs["padding"].cast<std::array<int64_t, 4>>();
    geometry_ = {stride[0],  stride[1],  dilation[0], dilation[1],
                 padding[0], padding[1], padding[2],  padding[3]};
    raise_if_error(qk_conv2d_prepare(packed_->get(), &geometry_, &arguments.output, &op_));
  }
  ~Conv2d() { qk_conv2d_free(op_); }
  Conv2d(const Conv2d&) = delete;
  Conv2d& operator=(const Conv2d&) = delete;

  void run(const py::array& x, py::array out) const {
    check_io(x, out, output_, 4);
    const std::array<int64_t, 2> pixels = output_pixels(x.shape(1), x.shape(2));
    require(x.shape(3) == info_.c * info_.groups && out.shape(0) == x.shape(0) &&
                out.shape(1) == pixels[0] && out.shape(2) == pixels[1] && out.shape(3) == info_.n,
            "shapes");
    const std::array<ptrdiff_t, 3> x_strides = {x.strides(0), x.strides(1), x.strides(2)};
    const std::array<ptrdiff_t, 3> out_strides = {out.strides(0), out.strides(1), out.strides(2)};
    const int64_t batch = x.shape(0);
    const int64_t h = x.shape(1);
    const int64_t w = x.shape(2);
    const void* from = x.data();
    void* to = out.mutable_data();
    raise_if_error(unlocked([&] {
      return qk_conv2d_run(op_, batch, h, w, from, x_strides.data(), to, out_strides.data());
    }));
  }

  // As Linear::call, on dense images.
  py::object call(py::handle x, py::handle out) const {
    const PlainArray from(x);
    if (!from || from.dtype() != output_.x_dtype || !from.dense() || from.axes() < 3) {
      return py::none();
    }
    const int leading = from.axes() - 3;
    const int64_t h = from.extent(leading);
    const int64_t w = from.extent(leading + 1);
    const std::array<int64_t, 2> pixels = output_pixels(h, w);
    if (from.size() == 0 || from.extent(leading + 2) != info_.c * info_.groups || pixels[0] < 1 ||
        pixels[1] < 1) {
      return py::none();
    }
    py::object result = out.is_none()
                            ? from.like(output_.out_dtype, leading, {pixels[0], pixels[1], info_.n})
                            : py::reinterpret_borrow<py::object>(out);
    const PlainArray to(result);
    if (!to || to.dtype() != output_.out_dtype || !to.dense() || !to.writeable() ||
        !to.same_shape(from, leading) || to.extent(leading) != pixels[0] ||
        to.extent(leading + 1) != pixels[1] || to.extent(leading + 2) != info_.n ||
        to.span().overlaps(from.span())) {
      return py::none();
    }
    const std::array<ptrdiff_t, 3> x_strides = dense_strides(from);
    const std::array<ptrdiff_t, 3> out_strides = dense_strides(to);
    raise_if_error(unlocked([&] {
      return qk_conv2d_run(op_, from.extents(0, leading), h, w, from.data(), x_strides.data(),
                           to.data(), out_strides.data());
    }));
    return result;
  }

 private:
  // Rows and columns of the output for an image of h x w.
  std::array<int64_t, 2> output_pixels(int64_t h, int64_t w) const {
    const qk_conv_geometry& g = geometry_;
    const auto extent = [](int64_t in, int64_t pads, int64_t kernel, int64_t stride,
                           int64_t dilation) {
      const int64_t room = in + pads - dilation * (kernel - 1) - 1;
      return room < 0 ? 0 : room / stride + 1;
    };
    return {extent(h, g.pad_top + g.pad_bottom, info_.kh, g.stride_h, g.dilation_h),
            extent(w, g.pad_left + g.pad_right, info_.kw, g.stride_w, g.dilation_w)};
  }

  // Bytes from image to image, row to row, pixel to pixel, whatever NumPy says for axes of one.
  static std::array<ptrdiff_t, 3> dense_strides(const PlainArray& images) {
    const int channels = images.axes() - 1;
    const auto pixel = static_cast<ptrdiff_t>(images.extent(channels)) *
                       static_cast<ptrdiff_t>(itemsize(images.dtype()));
    const auto row = static_cast<ptrdiff_t>(images.extent(channels - 1)) * pixel;
    return {static_cast<ptrdiff_t>(images.extent(channels - 2)) * row, row, pixel};
  }

  std::shared_ptr<Packed> packed_;
  qk_packed_info info_{};
  qk_output output_{};
  qk_conv_geometry geometry_{};
  qk_conv2d* op_ = nullptr;
};

// Releases what a matrix of the batch needed.
struct Product {
  qk_packed* packed = nullptr;
  qk_linear* op = nullptr;
  Product() = default;
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;
  ~Product() { clear(); }
  void clear() {
    qk_linear_free(op);
    qk_packed_free(packed);
    op = nullptr;
    packed = nullptr;
  }
};

// A strided array as base pointer and strides: walks the leading axes as one index.
struct Batch {
  explicit Batch(const py::array& array, const void* base)
      : data(static_cast<const uint8_t*>(base)),
        shape(array.shape(), array.shape() + array.ndim()),
        strides(array.strides(), array.strides() + array.ndim()) {}

  const uint8_t* at(int64_t index) const {
    const uint8_t* p = data;
    for (size_t axis = shape.size() - 2; axis-- > 0;) {
      p += index % shape[axis] * strides[axis];
      index /= shape[axis];
    }
    return p;
  }
  int64_t count() const {
    int64_t n = 1;
    for (size_t axis = 0; axis + 2 < shape.size(); ++axis) n *= shape[axis];
    return n;
  }
  int64_t rows() const { return shape[shape.size() - 2]; }
  int64_t columns() const { return shape[shape.size() - 1]; }
  ptrdiff_t row_stride() const { return strides[strides.size() - 2]; }
  ptrdiff_t column_stride() const { return strides[strides.size() - 1]; }

  const uint8_t* data;
  std::vector<int64_t> shape;
  std::vector<ptrdiff_t> strides;
};

qk_status run_batch(const Batch& a, const Batch& b, const Batch& out, const qk_output& output,
                    qk_dtype b_dtype) {
  Product product;
  const uint8_t* packed_from = nullptr;
  const int64_t count = out.count();
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t* matrix = b.at(i);
    if (product.op == nullptr || matrix != packed_from) {
      product.clear();
      qk_status status = qk_pack_matrix(matrix, b_dtype, b.columns(), b.rows(), b.column_stride(),
                                        b.row_stride(), &product.packed);
      if (status == QK_OK) status = qk_linear_prepare(product.packed, &output, &product.op);
      if (status != QK_OK) return status;
      packed_from = matrix;
    }
    const qk_status status =
        qk_linear_run(product.op, a.rows(), a.at(i), a.row_stride(),
                      const_cast<uint8_t*>(out.at(i)), out.row_stride(), nullptr);
    if (status != QK_OK) return status;
  }
  return QK_OK;
}

void gemm_batch(const py::array& a, const py::array& b, int a_zero_point, int b_zero_point,
                py::array out) {
  const auto axes = a.ndim();
  require(axes >= 2 && b.ndim() == axes && out.ndim() == axes, "number of axes");
  qk_output output{};
  output.x_dtype = dtype_of(a);
  output.out_dtype = QK_INT32;
  output.x_zero_point = a_zero_point;
  const int32_t zero = b_zero_point;
  output.w_zero_point = &zero;
  output.n_w_zero_point = 1;
  const qk_dtype b_dtype = dtype_of(b);
  require(output.x_dtype <= QK_UINT8 && b_dtype <= QK_UINT8 && dtype_of(out) == QK_INT32, "dtypes");
  require(out.writeable(), "out is read-only");
  require((a.size() == 0 || contiguous_last(a)) && (out.size() == 0 || contiguous_last(out)),
          "last axis");
  const Batch a_batch(a, a.data());
  const Batch b_batch(b, b.data());
  const Batch out_batch(out, out.mutable_data());
  for (size_t axis = 0; axis + 2 < static_cast<size_t>(axes); ++axis) {
    require(
        a_batch.shape[axis] == b_batch.shape[axis] && a_batch.shape[axis] == out_batch.shape[axis],
        "leading shapes");
  }
  require(a_batch.columns() == b_batch.rows() && a_batch.rows() == out_batch.rows() &&
              b_batch.columns() == out_batch.columns(),
          "shapes");
  qk_status status = QK_OK;
  {
    const py::gil_scoped_release release;
    status = run_batch(a_batch, b_batch, out_batch, output, b_dtype);
  }
  raise_if_error(status);
}

}  // namespace

void register_ops(py::module_& module) {
  py::class_<Linear>(module, "Linear")
      .def(py::init<std::shared_ptr<Packed>, const py::kwargs&>(), py::arg("packed").none(false))
      .def("call", &Linear::call, py::arg("x"), py::arg("out"))
      .def("run", &Linear::run, py::arg("x"), py::arg("out"),
           py::arg("row_zero_point") = py::none());
  py::class_<Conv2d>(module, "Conv2d")
      .def(py::init<std::shared_ptr<Packed>, const py::kwargs&>(), py::arg("packed").none(false))
      .def("call", &Conv2d::call, py::arg("x"), py::arg("out"))
      .def("run", &Conv2d::run, py::arg("x"), py::arg("out"));
  module.def("gemm_batch", gemm_batch, py::arg("a"), py::arg("b"), py::arg("a_zero_point"),
             py::arg("b_zero_point"), py::arg("out"));
}

}  // namespace qk_python

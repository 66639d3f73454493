// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "arrays.h"

namespace qk_python {
namespace {

using Int32Vector = py::array_t<int32_t, py::array::c_style>;

std::shared_ptr<Packed> pack_matrix(const py::array& w) {
  require(w.ndim() == 2, "w");
  const qk_dtype dtype = dtype_of(w);
  qk_packed* handle = nullptr;
  qk_status status = QK_OK;
  {
    const py::gil_scoped_release release;
    status = qk_pack_matrix(w.data(), dtype, w.shape(0), w.shape(1), w.strides(0), w.strides(1),
                            &handle);
  }
  raise_if_error(status);
  return std::make_shared<Packed>(handle);
}

std::shared_ptr<Packed> pack_conv(const py::array& w, int64_t groups,
                                  const std::optional<Int32Vector>& zero_point) {
  require(w.ndim() == 4, "w");
  const qk_dtype dtype = dtype_of(w);
  std::array<int64_t, 4> shape{};
  std::array<ptrdiff_t, 4> strides{};
  for (int i = 0; i < 4; ++i) {
    shape[static_cast<size_t>(i)] = w.shape(i);
    strides[static_cast<size_t>(i)] = w.strides(i);
  }
  const int32_t* zero = zero_point ? zero_point->data() : nullptr;
  const size_t n_zero = zero_point ? static_cast<size_t>(zero_point->size()) : 0;
  qk_packed* handle = nullptr;
  qk_status status = QK_OK;
  {
    const py::gil_scoped_release release;
    status =
        qk_pack_conv(w.data(), dtype, shape.data(), strides.data(), groups, zero, n_zero, &handle);
  }
  raise_if_error(status);
  return std::make_shared<Packed>(handle);
}

// Holds the exporter's view for as long as the packed weights use its memory.
std::shared_ptr<Packed> from_buffer(const py::object& source) {
  const auto view = py::memoryview(source);
  const auto bytes =
      py::reinterpret_steal<py::object>(PyMemoryView_GetContiguous(view.ptr(), PyBUF_READ, 'C'));
  if (!bytes) throw py::error_already_set();
  const Py_buffer* buffer = PyMemoryView_GET_BUFFER(bytes.ptr());
  qk_packed* handle = nullptr;
  qk_status status = QK_OK;
  {
    const py::gil_scoped_release release;
    status = qk_packed_from_bytes(buffer->buf, static_cast<size_t>(buffer->len), &handle);
  }
  raise_if_error(status);
  const bool borrowed = qk_packed_bytes(handle) == buffer->buf;
  return std::make_shared<Packed>(handle, borrowed ? bytes : py::object(py::none()));
}

py::dict describe(const Packed& packed) {
  static const char* const kinds[] = {"", "matrix", "conv", "depthwise"};
  const qk_packed_info info = packed.info();
  py::dict fields;
  fields["kind"] = kinds[info.kind];
  fields["dtype"] = info.dtype == QK_UINT8 ? "uint8" : "int8";
  fields["layout"] = info.layout;
  fields["n"] = info.n;
  fields["k"] = info.k;
  fields["kh"] = info.kh;
  fields["kw"] = info.kw;
  fields["c"] = info.c;
  fields["groups"] = info.groups;
  fields["size"] = info.size;
  return fields;
}

py::array unpack(const Packed& packed, std::optional<py::array> out) {
  const qk_packed_info info = packed.info();
  std::vector<py::ssize_t> shape = {info.n, info.k};
  if (info.kind != QK_MATRIX) shape = {info.n, info.kh, info.kw, info.c};
  if (!out) out = py::array(py::dtype(info.dtype == QK_UINT8 ? "uint8" : "int8"), shape);
  require(out->writeable() && dtype_of(*out) == info.dtype &&
              std::equal(shape.begin(), shape.end(), out->shape(), out->shape() + out->ndim()),
          "out");
  void* const w = out->mutable_data();
  const ptrdiff_t rows = out->strides(0);
  const ptrdiff_t last = out->strides(out->ndim() - 1);
  const ptrdiff_t strides[4] = {rows, info.kind == QK_MATRIX ? 0 : out->strides(1),
                                info.kind == QK_MATRIX ? 0 : out->strides(2), last};
  qk_status status = QK_OK;
  {
    const py::gil_scoped_release release;
    status = qk_unpack_strided(packed.get(), w, strides);
  }
  raise_if_error(status);
  return *out;
}

}  // namespace

void register_packed(py::module_& module) {
  py::class_<Packed, std::shared_ptr<Packed>>(module, "Packed", py::buffer_protocol())
      .def_static("matrix", pack_matrix, py::arg("w"))
      .def_static("conv", pack_conv, py::arg("w"), py::arg("groups"),
                  py::arg("zero_point").none(true))
      .def_static("from_buffer", from_buffer, py::arg("buffer"))
      .def_property_readonly("info", describe)
      .def_property_readonly(
          "native", [](const Packed& packed) { return qk_packed_native(packed.get()) != 0; })
      .def_buffer([](const Packed& packed) {
        const qk_packed_info info = packed.info();
        return py::buffer_info(const_cast<void*>(qk_packed_bytes(packed.get())), 1, "B", 1,
                               {static_cast<py::ssize_t>(info.size)}, {1}, true);
      })
      .def("buffer", [](const py::object& self) { return py::memoryview(self); })
      .def("unpack", unpack, py::arg("out") = py::none());
}

}  // namespace qk_python

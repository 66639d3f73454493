// SPDX-License-Identifier: Apache-2.0
#include "arrays.h"

namespace qk_python {
namespace {

qk_probe probe_of(const std::string& name) {
  if (name == "dots") return QK_PROBE_DOTS;
  if (name == "float32") return QK_PROBE_FLOAT32;
  if (name == "read") return QK_PROBE_READ;
  require(name == "chain", "what");
  return QK_PROBE_CHAIN;
}

double probe(const std::string& what, double seconds, size_t bytes) {
  const qk_probe kind = probe_of(what);
  double per_second = 0;
  qk_status status = QK_OK;
  {
    const py::gil_scoped_release release;
    status = qk_probe_run(kind, bytes, seconds, &per_second);
  }
  raise_if_error(status);
  return per_second;
}

}  // namespace

void register_probe(py::module_& module) {
  module.def("probe", probe, py::arg("what"), py::arg("seconds"), py::arg("bytes") = 0);
}

}  // namespace qk_python

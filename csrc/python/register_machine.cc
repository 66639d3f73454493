// SPDX-License-Identifier: Apache-2.0
#include <sstream>

#include "arrays.h"

namespace qk_python {
namespace {

py::list isas() {
  py::list tiers;
  for (size_t i = 0; i < qk_isa_count(); ++i) {
    py::dict tier;
    tier["name"] = qk_isa_name(i);
    tier["parent"] = qk_isa_parent(i);
    tier["available"] = qk_isa_available(i) != 0;
    tier["missing"] = qk_isa_missing(i);
    tiers.append(tier);
  }
  return tiers;
}

py::list features() {
  py::list names;
  std::istringstream text(qk_cpu_features());
  for (std::string name; text >> name;) names.append(name);
  return names;
}

py::list kernels() {
  py::list entries;
  for (size_t i = 0; i < qk_kernel_count(); ++i) {
    qk_kernel_info info{};
    raise_if_error(qk_kernel(i, &info));
    py::dict entry;
    entry["name"] = info.name;
    entry["tier"] = info.tier;
    entry["op"] = info.op;
    entry["layout"] = info.layout;
    entry["lhs"] = info.lhs;
    entry["mr"] = info.mr;
    entry["nr"] = info.nr;
    entry["kr"] = info.kr;
    entry["available"] = info.available != 0;
    entries.append(entry);
  }
  return entries;
}

}  // namespace

void register_machine(py::module_& module) {
  module.def("isas", isas);
  module.def("isa", [] { return std::string(qk_isa()); });
  module.def(
      "use_isa", [](const std::string& name) { raise_if_error(qk_use_isa(name.c_str())); },
      py::arg("name"));
  module.def("cpu_features", features);
  module.def("set_num_threads", [](int n) { raise_if_error(qk_set_num_threads(n)); }, py::arg("n"));
  module.def("get_num_threads", qk_get_num_threads);
  module.def("get_process_threads", qk_get_process_threads);
  module.def(
      "set_local_threads", [](int n) { raise_if_error(qk_set_local_threads(n)); }, py::arg("n"));
  module.def("get_local_threads", qk_get_local_threads);
  module.def(
      "set_eager_threads", [](bool eager) { qk_set_eager_threads(eager ? 1 : 0); },
      py::arg("eager"));
  module.def("cpu_count", qk_cpu_count);
  module.def("kernels", kernels);
}

}  // namespace qk_python

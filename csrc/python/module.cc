// SPDX-License-Identifier: Apache-2.0
//
// qkernels._core: the C API with NumPy arrays. One register_*.cc a topic; _core.pyi documents it.
#include "arrays.h"

#if PYBIND11_VERSION_HEX >= 0x020D0000
PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
#else
PYBIND11_MODULE(_core, module) {
#endif
  namespace py = pybind11;
  module.doc() = "The compiled core of qkernels. Private: use the qkernels package.";
  module.attr("__version__") = qk_version();
  module.attr("CoreError") = py::reinterpret_steal<py::object>(
      PyErr_NewException("qkernels._core.CoreError", PyExc_Exception, nullptr));
  qk_python::register_machine(module);
  qk_python::register_packed(module);
  qk_python::register_ops(module);
  qk_python::register_quantize(module);
  qk_python::register_probe(module);
}

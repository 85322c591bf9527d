// Errors of C++ as those of qcore.
#pragma once

#include <pybind11/pybind11.h>

#include <exception>

#include "qcore/base/error.h"

namespace qcore::python {

namespace py = pybind11;

inline void set_error(const char* type, const std::exception& error) {
  const py::object raised = py::module_::import("qcore.errors").attr(type);
  PyErr_SetString(raised.ptr(), error.what());
}

inline void translate_errors() {
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const ArgumentError& error) {
      set_error("ArgumentError", error);
    } catch (const ArgumentTypeError& error) {
      set_error("ArgumentTypeError", error);
    }
  });
}

}  // namespace qcore::python

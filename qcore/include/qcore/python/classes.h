// Classes of native objects, and arguments that are such.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "qcore/base/error.h"

namespace qcore {

namespace py = pybind11;

// A class whose objects only the functions of the module make.
template <class T>
py::class_<T> native_class(py::handle module, const char* name) {
  py::class_<T> made(module, name);
  made.attr("__new__") = py::staticmethod(py::cpp_function(
      [text = std::string(name)](const py::args&, const py::kwargs&) -> py::object {
    throw py::type_error(text + " objects are made by the kernels alone");
  }));
  return made;
}

// An object of Python as one of C++, or ArgumentTypeError; `wanted` says in words what it must be.
template <class T>
T cast_argument(py::handle given, const char* name, const char* wanted) {
  try {
    if (!given.is_none()) return given.cast<T>();
  } catch (const py::cast_error&) {
  }
  throw ArgumentTypeError(std::string(name) + " must be " + wanted + ", not " +
                          py::str(py::type::handle_of(given)).cast<std::string>());
}

}  // namespace qcore

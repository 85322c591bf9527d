// A torch tensor as seen from C++ without libtorch: read through the Python object itself, so that
// no argument can misdescribe it.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <string>

#include "qcore/base/error.h"
#include "qcore/base/sizes.h"

namespace qcore {

namespace py = pybind11;

enum class DType { u8, s8, i32, i64, f16, f32, f64 };

constexpr int kMaxRank = 8;

// Objects that are looked up once a process.
struct TorchNames {
  std::array<py::object, 7> dtypes;
  py::object tensor, dtype, is_cpu, shape, stride, data_ptr;

  static const TorchNames& get() {
    static const TorchNames* names = [] {
      const py::module_ torch = py::module_::import("torch");
      return new TorchNames{
          {torch.attr("uint8"), torch.attr("int8"), torch.attr("int32"), torch.attr("int64"),
           torch.attr("float16"), torch.attr("float32"), torch.attr("float64")},
          torch.attr("Tensor"),
          intern("dtype"),
          intern("is_cpu"),
          intern("shape"),
          intern("stride"),
          intern("data_ptr")};
    }();
    return *names;
  }

 private:
  static py::object intern(const char* text) {
    return py::reinterpret_steal<py::object>(PyUnicode_InternFromString(text));
  }
};

inline const char* name_of(DType dtype) {
  static constexpr const char* kNames[] = {"torch.uint8",  "torch.int8",    "torch.int32",
                                           "torch.int64",  "torch.float16", "torch.float32",
                                           "torch.float64"};
  return kNames[static_cast<int>(dtype)];
}

class TensorView {
 public:
  // Checks that `tensor` is a CPU tensor of this dtype; `name` is what errors call it.
  TensorView(py::handle tensor, const char* name, DType dtype) : name_(name), owner_(tensor) {
    const TorchNames& names = TorchNames::get();
    if (!PyObject_TypeCheck(tensor.ptr(), reinterpret_cast<PyTypeObject*>(names.tensor.ptr()))) {
      throw ArgumentTypeError(std::string(name) + " must be a tensor, not " +
                              py::str(py::type::handle_of(tensor)).cast<std::string>());
    }
    const py::object given = attribute(names.dtype);
    if (!given.is(names.dtypes[static_cast<size_t>(dtype)])) {
      throw ArgumentTypeError(std::string(name) + " must be " + name_of(dtype) + ", not " +
                              py::str(given).cast<std::string>());
    }
    if (!attribute(names.is_cpu).is(py::handle(Py_True))) {
      throw ArgumentError(std::string(name) + " must be on the CPU");
    }
    const py::object shape = attribute(names.shape);
    const py::object stride = call(names.stride);
    if (!PyTuple_Check(shape.ptr()) || !PyTuple_Check(stride.ptr()) ||
        PyTuple_GET_SIZE(shape.ptr()) != PyTuple_GET_SIZE(stride.ptr())) {
      throw ArgumentTypeError(std::string(name) + " must be a strided tensor");
    }
    if (PyTuple_GET_SIZE(shape.ptr()) > kMaxRank) {
      throw ArgumentError(std::string(name) + " has more than " + std::to_string(kMaxRank) +
                          " dimensions");
    }
    rank_ = static_cast<int>(PyTuple_GET_SIZE(shape.ptr()));
    int64_t most = 1;  // elements, were there no dimension of size 0
    for (int i = 0; i < rank_; ++i) {
      const int64_t size = shape_[static_cast<size_t>(i)] =
          integer(PyTuple_GET_ITEM(shape.ptr(), i));
      stride_[static_cast<size_t>(i)] = integer(PyTuple_GET_ITEM(stride.ptr(), i));
      if (size < 0 || __builtin_mul_overflow(most, size > 0 ? size : 1, &most) ||
          most > kMostElements) {
        fail("has more elements than memory holds");
      }
      numel_ *= size;
    }
    data_ = PyLong_AsVoidPtr(call(names.data_ptr).ptr());
    if (PyErr_Occurred()) throw py::error_already_set();
    if (!data_ && numel_ != 0) throw ArgumentError(std::string(name) + " has no memory behind it");
  }

  static bool has_dtype(py::handle tensor, DType dtype) {
    const TorchNames& names = TorchNames::get();
    return py::getattr(tensor, names.dtype, py::none())
        .is(names.dtypes[static_cast<size_t>(dtype)]);
  }

  int rank() const { return rank_; }
  int64_t numel() const { return numel_; }
  const int64_t* sizes() const { return shape_.data(); }
  int64_t shape(int i) const { return shape_[static_cast<size_t>(i)]; }
  int64_t stride(int i) const { return stride_[static_cast<size_t>(i)]; }
  py::handle owner() const { return owner_; }

  template <class T>
  T* data() const {
    return static_cast<T*>(data_);
  }

  const TensorView& of_rank(int rank) const {
    if (rank_ != rank) {
      fail("must have " + std::to_string(rank) + " dimensions, not " + std::to_string(rank_));
    }
    return *this;
  }

  // Whether its elements fill one run of memory, each once, in any order of the dimensions.
  bool is_dense() const {
    int64_t filled = 1;
    while (filled < numel_) {
      int next = 0;
      while (next < rank_ && (shape(next) == 1 || stride(next) != filled)) ++next;
      if (next == rank_) return false;
      filled *= shape(next);
    }
    return true;
  }

  const TensorView& contiguous() const {
    int64_t expected = 1;
    for (int i = rank_ - 1; i >= 0; --i) expected = check_stride(i, expected);
    return *this;
  }

  // Channels (dimension 1) vary fastest, then the last dimension, and so on to the first.
  const TensorView& channels_last() const {
    if (rank_ < 3) fail("must have at least 3 dimensions, not " + std::to_string(rank_));
    int64_t expected = check_stride(1, 1);
    for (int i = rank_ - 1; i >= 2; --i) expected = check_stride(i, expected);
    check_stride(0, expected);
    return *this;
  }

  const TensorView& with_elements(int64_t count) const {
    if (numel_ != count) {
      fail("must have " + std::to_string(count) + " elements, not " + std::to_string(numel_));
    }
    return *this;
  }

  const TensorView& with_size(int dimension, int64_t size) const {
    if (shape(dimension) != size) {
      fail("must have size " + std::to_string(size) + " in dimension " + std::to_string(dimension) +
           ", not " + std::to_string(shape(dimension)));
    }
    return *this;
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw ArgumentError(std::string(name_) + " " + what);
  }

 private:
  py::object attribute(const py::object& name) const {
    return present(PyObject_GetAttr(owner_.ptr(), name.ptr()));
  }

  py::object call(const py::object& method) const {
    return present(PyObject_CallMethodNoArgs(owner_.ptr(), method.ptr()));
  }

  // What torch has told of the tensor; what it refuses to tell, as the sizes of nested tensors, no
  // kernel can do without.
  py::object present(PyObject* value) const {
    if (!value) {
      const py::error_already_set error;
      throw ArgumentTypeError(std::string(name_) +
                              " must be a strided tensor with memory of its own: " + error.what());
    }
    return py::reinterpret_steal<py::object>(value);
  }

  static int64_t integer(PyObject* value) {
    const long long v = PyLong_AsLongLong(value);
    if (v == -1 && PyErr_Occurred()) throw py::error_already_set();
    return v;
  }

  int64_t check_stride(int i, int64_t expected) const {
    if (numel_ != 0 && shape(i) != 1 && stride(i) != expected) {
      fail("has stride " + std::to_string(stride(i)) + " in dimension " + std::to_string(i) +
           " where the kernel needs " + std::to_string(expected));
    }
    return expected * shape(i);
  }

  const char* name_;
  py::handle owner_;
  void* data_ = nullptr;
  int rank_ = 0;
  int64_t numel_ = 1;
  std::array<int64_t, kMaxRank> shape_{}, stride_{};
};

}  // namespace qcore

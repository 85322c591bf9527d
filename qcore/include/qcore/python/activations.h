// Tensors of activations, as the kernels have them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "qcore/base/qparams.h"
#include "qcore/isa/elements.h"
#include "qcore/ops/integers.h"
#include "qcore/python/arguments.h"
#include "qcore/python/tensor_view.h"

namespace qcore::python {

// Dense activations: uint8, or int8, which kernels have as uint8: each number, and the zero point,
// 128 more.
class Activations : public TensorView {
 public:
  Activations(py::handle tensor, const char* name)
      : Activations(tensor, name, has_dtype(tensor, DType::s8)) {}

  QParams qparams(double scale, int64_t zero, const char* name) const {
    if (!signed_) return checked_u8(scale, zero, name);
    QParams q = checked_qparams(scale, zero, {-128, 127}, name);
    q.zero += 128;
    return q;
  }

  // As they are stored.
  Operand operand(double scale, int64_t zero, const char* name) const {
    const QParams q = qparams(scale, zero, name);
    return {static_cast<float>(q.scale), q.zero - shift(), signed_};
  }

  // How much more the kernels have each number.
  int32_t shift() const { return signed_ ? 128 : 0; }
  bool is_signed() const { return signed_; }

  // As the kernels take them; `room` is for those of int8.
  const uint8_t* input(std::vector<uint8_t>& room) const {
    if (!signed_) return data<uint8_t>();
    room.resize(static_cast<size_t>(numel()));
    turn(room.data(), 0, numel());
    return room.data();
  }

  // After the kernels wrote them.
  void finish_output() const { finish_output(0, numel()); }
  void finish_output(int64_t begin, int64_t end) const {
    if (signed_) turn(data<uint8_t>(), begin, end);
  }

  // Those of int8 as the kernels take them.
  void turn(uint8_t* to, int64_t begin, int64_t end) const {
    turn_signs(data<uint8_t>(), to, begin, end);
  }

 private:
  Activations(py::handle tensor, const char* name, bool is_signed)
      : TensorView(tensor, name, is_signed ? DType::s8 : DType::u8), signed_(is_signed) {}

  bool signed_;
};

inline void check_same_dtype(const Activations& x, const Activations& y) {
  if (x.is_signed() != y.is_signed()) y.fail("must have the dtype of x");
}

}  // namespace qcore::python

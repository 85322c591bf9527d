// The whole Python module of a native backend: its instruction sets, best first, and every kernel
// of each.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/gemm/packed_weights.h"
#include "qcore/python/attention.h"
#include "qcore/python/classes.h"
#include "qcore/python/conv.h"
#include "qcore/python/conv_transpose.h"
#include "qcore/python/elementwise.h"
#include "qcore/python/embedding.h"
#include "qcore/python/errors.h"
#include "qcore/python/floats.h"
#include "qcore/python/interpolate.h"
#include "qcore/python/linear.h"
#include "qcore/python/matmul.h"
#include "qcore/python/normalization.h"
#include "qcore/python/plan.h"
#include "qcore/python/pooling.h"
#include "qcore/python/quantize.h"
#include "qcore/python/recurrent.h"
#include "qcore/python/softmax.h"
#include "qcore/python/training.h"

namespace qcore {

struct Isa {
  const Kernels& kernels;
  bool (*supported)();
};

// `kIsas`: an array of Isa with static storage.
template <const auto& kIsas>
const Kernels* find_isa(const std::string& name) {
  for (const Isa& isa : kIsas) {
    if (name != isa.kernels.name) continue;
    if (!isa.supported()) throw ArgumentError("this CPU has no " + name);
    return &isa.kernels;
  }
  throw ArgumentError("unknown instruction set " + name);
}

// Adds the class of kernels with all of their functions.
inline void bind_kernels(pybind11::module_& m) {
  pybind11::class_<Kernels> kernels = native_class<Kernels>(m, "Kernels");
  kernels.def_readonly("name", &Kernels::name);
  python::bind_linear(m, kernels);
  python::bind_conv(m, kernels);
  python::bind_conv_transpose(m, kernels);
  python::bind_quantize(kernels);
  python::bind_elementwise(kernels);
  python::bind_pooling(kernels);
  python::bind_matmul(kernels);
  python::bind_normalization(kernels);
  python::bind_softmax(kernels);
  python::bind_attention(kernels);
  python::bind_interpolate(kernels);
  python::bind_floats(kernels);
  python::bind_plan(m, kernels);
  python::bind_training(kernels);
  python::bind_recurrent(m, kernels);
  python::bind_embedding(m, kernels);
}

template <const auto& kIsas>
void bind_module(pybind11::module_& m) {
  python::translate_errors();
  m.attr("MAX_ACCUMULATED") = kMaxAccumulated;
  bind_kernels(m);
  m.def("kernels", &find_isa<kIsas>, pybind11::return_value_policy::reference);
  const auto names = [](bool supported_only) {
    std::vector<std::string> found;
    for (const Isa& isa : kIsas) {
      if (!supported_only || isa.supported()) found.emplace_back(isa.kernels.name);
    }
    return found;
  };
  m.def("known_isas", [names] { return names(false); },
        "Instruction sets with kernels, best first.");
  m.def("supported_isas", [names] { return names(true); }, "Those that this CPU has, best first.");
}

}  // namespace qcore

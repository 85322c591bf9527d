// The whole Python module of a native backend: its instruction sets, best first, and every kernel of each.
#pragma once

#include "qcore/python/softmax.h"
#include "qcore/python/attention.h"
#include "qcore/python/conv_transpose.h"
#include "qcore/python/elementwise.h"
#include "qcore/python/embedding.h"
#include "qcore/python/floats.h"
#include "qcore/python/interpolate.h"
#include "qcore/python/matmul.h"
#include "qcore/python/normalization.h"
#include "qcore/python/plan.h"
#include "qcore/python/recurrent.h"
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

template <const auto& kIsas>
void bind_module(py::module_& m) {
  py::class_<Kernels> kernels = bind(m, &find_isa<kIsas>);
  bind_conv_transpose(m, kernels);
  bind_matmul(kernels);
  bind_normalization(kernels);
  bind_activation(kernels);
  bind_attention(kernels);
  bind_interpolate(kernels);
  bind_floats(kernels);
  bind_plan(m, kernels);
  bind_training(kernels);
  bind_recurrent(m, kernels);
  bind_embedding(m, kernels);
  const auto names = [](bool supported_only) {
    std::vector<std::string> found;
    for (const Isa& isa : kIsas) {
      if (!supported_only || isa.supported()) found.emplace_back(isa.kernels.name);
    }
    return found;
  };
  m.def("known_isas", [names] { return names(false); }, "Instruction sets with kernels, best first.");
  m.def("supported_isas", [names] { return names(true); }, "Those that this CPU has, best first.");
}

}  // namespace qcore

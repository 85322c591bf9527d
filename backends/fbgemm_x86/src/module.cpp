// The Python module: the instruction sets of x86 in order of preference, and which of them this CPU has.
#include <cpuid.h>

#include "qcore/module_conv_transpose.h"
#include "qcore/module_elementwise.h"
#include "qcore/module_embedding.h"
#include "qcore/module_recurrent.h"
#include "qcore/module_normalization.h"
#include "qcore/module_training.h"

namespace qcore {
namespace scalar {
extern const Kernels kKernels;
}
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512_vnni {
extern const Kernels kKernels;
}

namespace {

struct Isa {
  const Kernels& kernels;
  bool (*supported)();
};

// Not known to every compiler's __builtin_cpu_supports.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

// __builtin_cpu_supports asks cpuid, and xgetbv for what the operating system saves.
const Isa kIsas[] = {
    {avx512_vnni::kKernels,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
     }},
    {avx2::kKernels, [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }},
    {scalar::kKernels, [] { return true; }},
};

const Kernels* find(const std::string& name) {
  for (const Isa& isa : kIsas) {
    if (name != isa.kernels.name) continue;
    if (!isa.supported()) throw ArgumentError("this CPU has no " + name);
    return &isa.kernels;
  }
  throw ArgumentError("unknown instruction set " + name);
}

std::vector<std::string> names(bool supported_only) {
  std::vector<std::string> found;
  for (const Isa& isa : kIsas) {
    if (!supported_only || isa.supported()) found.emplace_back(isa.kernels.name);
  }
  return found;
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  __builtin_cpu_init();
  m.doc() = "Kernels of fbgemm_x86";
  py::class_<Kernels> kernels = bind(m, &find);
  bind_conv_transpose(m, kernels);
  bind_normalization(kernels);
  bind_training(kernels);
  bind_recurrent(m, kernels);
  bind_embedding(m, kernels);
  m.def("known_isas", [] { return names(false); }, "Instruction sets with kernels, best first.");
  m.def("supported_isas", [] { return names(true); }, "Those that this CPU has, best first.");
}

}  // namespace qcore

// Plans from several threads, on kernels whose threads have state of their own: tile registers. It
// takes minutes to compile.

#include "cpu.h"
#include "isa_avx512_amx.h"
#include "plans.inl.h"
#include "qcore/micro/elementwise.inl.h"
#include "qcore/micro/gemm.inl.h"
#include "qcore/micro/pooling.inl.h"

int main(int argc, char** argv) {
  namespace isa = qcore::avx512_amx;
  if (!qcore::has_amx()) return check::kNotRun;
  qcore::Kernels kernels{};
  kernels.name = "plans on avx512_amx";
  kernels.layout = isa::kLayout;
  kernels.hold = isa::holder();
  kernels.gemm_u8 = isa::gemm_u8;
  kernels.add = isa::add;
  kernels.lookup = isa::lookup;
  kernels.max = isa::max;
  return qcore::run_plans(kernels, argc > 1 ? std::atoi(argv[1]) : 6);
}

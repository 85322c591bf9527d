// Plans from several threads, on kernels whose threads have state of their own: tile registers.

#include "cpu.h"
#include "isa_avx512_amx.h"
#include "plans.inl.h"

int main(int argc, char** argv) { return qcore::has_amx() ? qcore::avx512_amx::run_plans(argc > 1 ? std::atoi(argv[1]) : 10) : check::kNotRun; }

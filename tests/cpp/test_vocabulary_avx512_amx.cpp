// The vocabulary of avx512_amx.

#include "cpu.h"
#include "qcore/isa/scalar.h"
#undef QCORE_ISA
#undef QCORE_ISA_NAME
#include "isa_avx512_amx.h"
#include "vocabulary.inl.h"

int main() { return qcore::has_amx() ? qcore::avx512_amx::run_vocabulary() : check::kNotRun; }

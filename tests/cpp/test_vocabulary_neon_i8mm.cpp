// The vocabulary of neon_i8mm.

#include "cpu.h"
#include "qcore/isa/scalar.h"
#undef QCORE_ISA
#undef QCORE_ISA_NAME
#include "isa_neon_i8mm.h"
#include "vocabulary.inl.h"

int main() { return qcore::has_neon_i8mm() ? qcore::neon_i8mm::run_vocabulary() : check::kNotRun; }

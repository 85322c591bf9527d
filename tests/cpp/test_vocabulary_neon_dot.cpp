// The vocabulary of neon_dot.

#include "cpu.h"
#include "qcore/isa/scalar.h"
#undef QCORE_ISA
#undef QCORE_ISA_NAME
#include "isa_neon_dot.h"
#include "vocabulary.inl.h"

int main() { return qcore::has_neon_dot() ? qcore::neon_dot::run_vocabulary() : check::kNotRun; }

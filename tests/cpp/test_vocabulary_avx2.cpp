// The vocabulary of avx2.

#include "cpu.h"
#include "qcore/isa/scalar.h"
#undef QCORE_ISA
#undef QCORE_ISA_NAME
#include "isa_avx2.h"
#include "vocabulary.inl.h"

int main() { return qcore::has_avx2() ? qcore::avx2::run_vocabulary() : check::kNotRun; }

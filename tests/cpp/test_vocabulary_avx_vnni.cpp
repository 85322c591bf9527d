// The vocabulary of avx_vnni.

#include "cpu.h"
#include "qcore/isa/scalar.h"
#undef QCORE_ISA
#undef QCORE_ISA_NAME
#include "isa_avx_vnni.h"
#include "vocabulary.inl.h"

int main() { return qcore::has_avx_vnni() ? qcore::avx_vnni::run_vocabulary() : check::kNotRun; }

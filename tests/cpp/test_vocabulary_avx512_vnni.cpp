// The vocabulary of avx512_vnni.

#include "cpu.h"
#include "qcore/isa/scalar.h"
#undef QCORE_ISA
#undef QCORE_ISA_NAME
#include "isa_avx512_vnni.h"
#include "vocabulary.inl.h"

int main() {
  return qcore::has_avx512_vnni() ? qcore::avx512_vnni::run_vocabulary() : check::kNotRun;
}

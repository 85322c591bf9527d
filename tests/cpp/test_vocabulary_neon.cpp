// The vocabulary of neon.

#include "qcore/isa/scalar.h"
#undef QCORE_ISA
#undef QCORE_ISA_NAME
#include "isa_neon.h"
#include "vocabulary.inl.h"

int main() { return qcore::neon::run_vocabulary(); }

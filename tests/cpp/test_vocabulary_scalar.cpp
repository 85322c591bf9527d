// The vocabulary of scalar.

#include "qcore/isa/scalar.h"
#include "vocabulary.inl.h"

int main() { return qcore::scalar::run_vocabulary(); }

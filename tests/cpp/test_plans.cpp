// Plans from several threads, on the plain kernels.

#include "qcore/isa_scalar.h"
#include "plans.inl.h"

int main(int argc, char** argv) { return qcore::scalar::run_plans(argc > 1 ? std::atoi(argv[1]) : 10); }

# What each instruction set is compiled with.
set(QCORE_ISAS neon neon_dot neon_i8mm)
set(QCORE_FLAGS_neon)
set(QCORE_FLAGS_neon_dot -march=armv8.2-a+dotprod)
set(QCORE_FLAGS_neon_i8mm -march=armv8.2-a+dotprod+i8mm)

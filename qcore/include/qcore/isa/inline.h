// What code that is compiled once per ISA is made of: all inlined, so that the linker has nothing
// of it to share. With QCORE_CALLS they stay calls: slow code that compiles in a fraction of the
// time, for sanitizers, on a CPU that has every instruction set.
#pragma once

#ifdef QCORE_CALLS
#define QCORE_INLINE inline
#define QCORE_INLINE_LAMBDA
#else
#define QCORE_INLINE inline __attribute__((always_inline))
#define QCORE_INLINE_LAMBDA __attribute__((always_inline))
#endif

namespace qcore {

template <int N>
struct Constant {
  static constexpr int value = N;
};

// body(Constant<0>), ..., body(Constant<N - 1>): unrolled before the optimiser runs, so that arrays
// become registers.
template <int N, class Body>
QCORE_INLINE void unroll(const Body& body) {
  if constexpr (N > 0) {
    unroll<N - 1>(body);
    body(Constant<N - 1>{});
  }
}

}  // namespace qcore

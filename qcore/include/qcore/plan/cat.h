// Concatenation as an operation of a plan.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "qcore/base/error.h"
#include "qcore/base/qparams.h"
#include "qcore/base/thread_pool.h"
#include "qcore/isa/kernels.h"
#include "qcore/ops/elementwise.h"
#include "qcore/ops/integers.h"
#include "qcore/plan/plan.h"

namespace qcore {

// Each input requantized into its part of the result, in the layout of the first.
inline Plan::Operation cat_operation(const Kernels& kernels, int64_t dim,
                                     std::vector<Operand> operands, QParams y, bool relu) {
  const IntegerResult result = integer_result(y, inverse(y.scale), relu);
  return [=, &kernels](Program& program, const std::vector<Place>& in) {
    Extent out = in[0].extent;
    const size_t d = out.dimension(dim);
    for (size_t i = 1; i < in.size(); ++i) {
      Extent other = in[i].extent;
      if (other.rank != out.rank) {
        throw ArgumentError("its inputs differ in their number of dimensions");
      }
      const int64_t length = other.size[d];
      other.size[d] = out.size[d];
      if (!same_sizes(other, out)) {
        throw ArgumentError("its inputs differ in more than dimension " + std::to_string(dim));
      }
      out.size[d] += length;
    }
    const Place first = program.dense(in[0]);
    const bool last = is_channels_last(first.extent) && !is_contiguous(first.extent);
    out = laid_out(out, last);
    std::vector<Place> parts;
    std::vector<int64_t> lengths;  // of what lies together, by input
    const auto order = order_of(out.rank, last);
    int64_t rows = 1, row = 0;
    bool before = true;
    int64_t inside = 1;
    for (size_t i = 0; i < static_cast<size_t>(out.rank); ++i) {
      if (order[i] == d) {
        before = false;
      } else {
        (before ? rows : inside) *= out.size[order[i]];
      }
    }
    for (const Place& place : in) {
      parts.push_back(last ? program.channels_last(place) : program.contiguous(place));
      lengths.push_back(place.extent.size[d] * inside);
      row += lengths.back();
    }
    return program.step(parts, out, 1,
                        [=, &kernels](const uint8_t* const* from, uint8_t* to, int threads) {
      if (row == 0) return;
      parallel_ranges(threads, rows, kElementwiseGrain / row + 1, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          uint8_t* y = to + r * row;
          for (size_t i = 0; i < lengths.size(); ++i) {
            kernels.requantize(from[i] + r * lengths[i], y, lengths[i], operands[i], result);
            y += lengths[i];
          }
        }
      });
    });
  };
}

}  // namespace qcore

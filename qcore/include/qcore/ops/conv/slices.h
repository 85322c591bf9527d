// How a convolution is cut into matrices: slices of channels, one of a few groups that lie side by
// side, and the order of K within them.
#pragma once

#include <cstdint>

#include "qcore/base/sizes.h"
#include "qcore/isa/layout.h"
#include "qcore/ops/windows.h"

namespace qcore {

// Groups of few channels leave lanes of their results empty; joined, with zeros for what they do
// not share, several fill these. Along K are runs of bytes that lie together in a slice of the
// padded input: a row of the kernel, or a tap where rows are dilated.
struct ConvSlices {
  int64_t joined = 1;     // groups to a slice
  int64_t per_group = 0;  // channels
  int64_t outputs = 0;    // of a group
  int64_t groups = 1;     // of the convolution
  int64_t runs = 1;       // along K
  int64_t taps = 1;       // of a run
  int64_t pieces = 1;     // of a run, as the kernels multiply them at once
  int64_t room = 0;       // bytes of a run along K; those behind it meet zeros
  bool grid = false;      // whether the padded input is copied, slice by slice

  int64_t slices() const { return groups / joined; }
  int64_t channels() const { return joined * per_group; }
  int64_t columns() const { return joined * outputs; }
  int64_t run_bytes() const { return taps * channels(); }
  int64_t k() const { return runs * room; }
  bool is_whole() const {
    return slices() == 1 && room == run_bytes();
  }  // as windows of all channels lie, one run behind the other
  int64_t units() const { return round_up(columns(), kLanes) / kLanes; }

  // What is known of a convolution before its weights are packed.
  struct Of {
    const WindowGeometry& geometry;
    int64_t groups, per_group, outputs;
    bool flat;      // kernels are of one plane, and no planes are left out or added
    bool may_join;  // no weight has a zero point
    bool plain;     // kernels read rows where they are
  };

  ConvSlices() = default;
  ConvSlices(const Layout& layout, const Of& of)
      : per_group(of.per_group), outputs(of.outputs), groups(of.groups) {
    const Sizes3& kernel = of.geometry.kernel;
    const bool whole_rows = of.geometry.dilation[2] == 1 || !of.flat;
    taps = whole_rows ? kernel[2] : 1;
    runs = kernel[0] * kernel[1] * kernel[2] / taps;
    ConvSlices next = *this;
    for (next.joined = 2; of.may_join && next.joined <= groups; ++next.joined) {
      if (groups % next.joined == 0 && next.cost(layout) * joined <= cost(layout) * next.joined) {
        joined = next.joined;
      }
    }
    grid = of.flat && runs * taps > 1 && (groups > 1 || of.plain) && reads_in_place(layout);
    if (grid) pieces = pieces_of_run(layout);
    room =
        grid ? round_up(divided_up(run_bytes(), layout.group), pieces) * layout.group : run_bytes();
  }

  // The weight of a column and a place along K of a slice; `data`: (outputs of all groups, channels
  // of one, taps).
  int8_t at(const int8_t* data, int64_t slice, int64_t column, int64_t i) const {
    const int64_t byte = i % room, channel = byte % channels(),
                  tap = i / room * taps + byte / channels();
    if (byte >= run_bytes() || channel / per_group != column / outputs) return 0;
    return data[((slice * columns() + column) * per_group + channel % per_group) * runs * taps +
                tap];
  }

 private:
  int64_t pieces_of_run(const Layout& layout) const {
    constexpr int64_t kMost =
        384;  // bytes of K whose weights are in the L1 cache, of all units of a panel
    const int64_t most = layout.piece > 0 ? int64_t{layout.piece} * layout.group : kMost;
    return (run_bytes() + most - 1) / most;
  }
  int64_t steps(const Layout& layout, int64_t bytes) const {
    const int64_t step = layout.piece > 0 ? int64_t{layout.piece} * layout.group : kGroup;
    return (bytes + step - 1) / step;
  }

  // Of a slice, for each of its rows, in steps along K of 16 columns; an epilogue is worth some,
  // and so is what a row costs by itself.
  int64_t cost(const Layout& layout) const {
    constexpr int64_t kEpilogue = 4, kRow = 4;
    return units() * (runs * steps(layout, run_bytes()) + kEpilogue) + kRow;
  }

  // Whether more steps, since each run has some of its own, take less than gathering rows would.
  bool reads_in_place(const Layout& layout) const {
    constexpr int64_t kCopy = 4;
    return (runs * steps(layout, run_bytes()) - steps(layout, runs * run_bytes())) * units() <=
           kCopy * runs;
  }
};

}  // namespace qcore

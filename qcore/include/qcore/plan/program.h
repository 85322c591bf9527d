// What a plan becomes for the sizes of its inputs: a program of steps in one planned piece of
// memory.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "qcore/base/buffer.h"
#include "qcore/base/copy.h"
#include "qcore/base/error.h"
#include "qcore/base/extent.h"
#include "qcore/base/sizes.h"
#include "qcore/plan/memory.h"

namespace qcore {

class Program {
 public:
  // Pointers to the places of a step: its inputs, and its result.
  using Work = std::function<void(const uint8_t* const* in, uint8_t* out, int threads)>;

  // For operations: a step that computes a result in a dense layout; `in_place`: it goes element by
  // element, as `may_overwrite` says. Raises ArgumentError where an input lies beyond its memory.
  Place step(const std::vector<Place>& in, const Extent& out, int item, Work work,
             bool in_place = false) {
    const int index = static_cast<int>(steps_.size());
    for (const Place& place : in) use(place, index);
    const Place result{new_buffer(Kind::arena, checked_product(out.numel(), item), index), 0, item,
                       out};
    steps_.push_back({node_, std::move(work), in, result, in_place});
    return result;
  }

  // The same elements as they are, or as a copy in the layout asked for.
  Place contiguous(const Place& x) {
    return is_contiguous(x.extent) ? x : copy(x, contiguous_like(x.extent));
  }
  Place channels_last(const Place& x) {
    return is_channels_last(x.extent) ? x : copy(x, channels_last_like(x.extent));
  }
  Place dense(const Place& x) {
    return is_contiguous(x.extent) || is_channels_last(x.extent)
               ? x
               : copy(x, contiguous_like(x.extent));
  }
  Place in_layout_of(const Place& x, const Extent& other) {
    return same_strides(x.extent, other)
               ? x
               : copy(x, is_contiguous(other) ? contiguous_like(x.extent)
                                              : channels_last_like(x.extent));
  }

  // --- made by a Plan ---

  Place input(const Extent& extent, int item) {
    input_items_.push_back(item);
    inputs_.push_back(extent);
    const Place whole{0, 0, item, extent};
    return {new_buffer(Kind::input, whole.end(), 0), 0, item, extent};
  }

  void begin(int node) { node_ = node; }

  void finish(const std::vector<Place>& results) {
    for (const Place& result : results) output(result);
    for (Step& step : steps_) {
      if (step.in_place) merge(step, static_cast<int>(&step - steps_.data()));
    }
    place_buffers();
  }

  const std::vector<Extent>& inputs() const { return inputs_; }
  const std::vector<Place>& outputs() const { return outputs_; }
  int input_item(size_t i) const { return input_items_[i]; }
  int64_t arena_bytes() const { return arena_bytes_; }

  // What a step reads and writes: which memory ("arena", or an input or output with its number),
  // its first byte and that behind its last one, and the number of the value that lies there.
  struct Range {
    std::string memory;
    int64_t begin, end;
    int value;
  };
  struct Access {
    std::vector<Range> reads;
    Range write;
  };

  // Of all steps in order: for tests, which follow what the memory holds.
  std::vector<Access> accesses() const {
    std::vector<Access> found;
    for (const Step& step : steps_) {
      Access access{{}, range(step.out)};
      for (const Place& place : step.in) access.reads.push_back(range(place));
      found.push_back(std::move(access));
    }
    return found;
  }

  // Reentrant: each call has an arena of its own. `seconds`, if given, gets the time of each node
  // added. `failed(node)` says what the error of a node is about.
  void run(const uint8_t* const* inputs, uint8_t* const* outputs, int threads,
           std::vector<double>* seconds, int* failed) const {
    std::unique_ptr<Buffer<uint8_t>> arena = take_arena();
    std::vector<const uint8_t*> in;
    for (const Step& step : steps_) {
      in.clear();
      for (const Place& place : step.in) {
        in.push_back(address(place, inputs, outputs, arena->data()));
      }
      *failed = step.node;
      const auto begin = std::chrono::steady_clock::now();
      step.work(in.data(), const_cast<uint8_t*>(address(step.out, inputs, outputs, arena->data())),
                threads);
      if (seconds && !seconds->empty()) {
        (*seconds)[static_cast<size_t>(step.node)] +=
            std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      }
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(std::move(arena));
  }

 private:
  enum class Kind { input, arena, output };

  struct Memory {
    Kind kind;
    int64_t bytes;
    int first, last;      // steps
    int index = 0;        // among inputs or outputs
    int64_t offset = -1;  // in the arena
    int merged = -1;      // the buffer whose memory this one takes over
  };

  struct Step {
    int node;
    Work work;
    std::vector<Place> in;
    Place out;
    bool in_place;
  };

  int new_buffer(Kind kind, int64_t bytes, int first) {
    Memory memory{kind, bytes, first, first};
    if (kind == Kind::input) memory.index = static_cast<int>(inputs_.size()) - 1;
    buffers_.push_back(memory);
    return static_cast<int>(buffers_.size()) - 1;
  }

  void use(const Place& place, int step) {
    Memory& memory = buffers_[static_cast<size_t>(place.buffer)];
    if (place.item == 0) {
      throw ArgumentError("only the sizes of a value are there, and so nothing to read");
    }
    if (place.extent.numel() > 0 && place.end() > memory.bytes) {
      throw ArgumentError("a value is read beyond its end");
    }
    memory.last = std::max(memory.last, step);
  }

  Range range(const Place& place) const {
    const Memory& memory = buffers_[static_cast<size_t>(root(place.buffer))];
    const char* const names[] = {"input", "arena", "output"};
    const std::string name = names[static_cast<int>(memory.kind)];
    const int64_t start = memory.kind == Kind::arena ? memory.offset : 0;
    return {memory.kind == Kind::arena ? name : name + " " + std::to_string(memory.index),
            start + place.offset, start + place.end(), place.buffer};
  }

  Place copy(const Place& x, const Extent& to) {
    const Extent from = x.extent;
    const int item = x.item;
    return step({x}, to, item,
                [from, to, item](const uint8_t* const* in, uint8_t* out, int threads) {
      copy_elements(in[0], from, out, to, item, threads);
    });
  }

  // A result goes straight to the caller's tensor where it has a buffer of its own.
  void output(Place result) {
    const bool is_dense = is_contiguous(result.extent) || is_channels_last(result.extent);
    const Memory* memory = &buffers_[static_cast<size_t>(result.buffer)];
    if (!is_dense || memory->kind != Kind::arena ||
        memory->bytes != result.extent.numel() * result.item) {
      result = copy(result, is_channels_last(result.extent) && !is_contiguous(result.extent)
                                ? result.extent
                                : contiguous_like(result.extent));
    }
    Memory& own = buffers_[static_cast<size_t>(result.buffer)];
    own.kind = Kind::output;
    own.index = static_cast<int>(outputs_.size());
    outputs_.push_back(result);
  }

  // Lets a step write over its first input, where nothing reads that later.
  void merge(const Step& step, int index) {
    Memory& out = buffers_[static_cast<size_t>(step.out.buffer)];
    const int source = root(step.in[0].buffer);
    Memory& in = buffers_[static_cast<size_t>(source)];
    if (out.kind != Kind::arena || in.kind != Kind::arena || in.last != index ||
        in.bytes != out.bytes) {
      return;
    }
    if (!may_overwrite(step.in, step.out, in.bytes, [this](int buffer) { return root(buffer); })) {
      return;
    }
    out.merged = source;
    in.last = out.last;
  }

  int root(int buffer) const {
    while (buffers_[static_cast<size_t>(buffer)].merged >= 0) {
      buffer = buffers_[static_cast<size_t>(buffer)].merged;
    }
    return buffer;
  }

  void place_buffers() {
    std::vector<Memory*> own;
    std::vector<Lifetime> lives;
    for (Memory& memory : buffers_) {
      if (memory.kind != Kind::arena || memory.merged >= 0) continue;
      own.push_back(&memory);
      lives.push_back({memory.bytes, memory.first, memory.last});
    }
    const Placement found = placed(lives);
    for (size_t i = 0; i < own.size(); ++i) own[i]->offset = found.offsets[i];
    arena_bytes_ = found.bytes;
  }

  const uint8_t* address(const Place& place, const uint8_t* const* inputs, uint8_t* const* outputs,
                         const uint8_t* arena) const {
    const Memory& memory = buffers_[static_cast<size_t>(root(place.buffer))];
    if (memory.kind == Kind::input) return inputs[memory.index] + place.offset;
    if (memory.kind == Kind::output) return outputs[memory.index] + place.offset;
    return arena + memory.offset + place.offset;
  }

  std::unique_ptr<Buffer<uint8_t>> take_arena() const {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!free_.empty()) {
        auto arena = std::move(free_.back());
        free_.pop_back();
        return arena;
      }
    }
    auto arena = std::make_unique<Buffer<uint8_t>>();
    arena->reserve(arena_bytes_);
    return arena;
  }

  int node_ = 0;
  std::vector<Extent> inputs_;
  std::vector<int> input_items_;
  std::vector<Place> outputs_;
  std::vector<Memory> buffers_;
  std::vector<Step> steps_;
  int64_t arena_bytes_ = 0;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Buffer<uint8_t>>> free_;
};

}  // namespace qcore

// Memory aligned for vectors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "qcore/base/sizes.h"

namespace qcore {

// Grows, never shrinks; 64 bytes behind the last element may be written, also of none. Contents are
// undefined after `reserve` has grown it.
template <class T>
class Buffer {
 public:
  T* reserve(int64_t count) {
    if (count > capacity_) {
      if (count > kMostElements) throw std::bad_alloc();
      const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 127) / 64 * 64;
      data_.reset(static_cast<T*>(std::aligned_alloc(64, bytes)));
      capacity_ = data_ ? count : -1;
      if (!data_) throw std::bad_alloc();
    }
    return data_.get();
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
  int64_t capacity_ = -1;
};

}  // namespace qcore

// SPDX-License-Identifier: Apache-2.0
//
// Aligned memory: owned buffers, and per-thread scratch that is kept from call to call.
#ifndef QKERNELS_CORE_MEMORY_H
#define QKERNELS_CORE_MEMORY_H

#include <cstddef>
#include <cstdint>

namespace qk {

constexpr size_t kAlignment = 64;  // a cache line, and the widest vector

template <typename T>
constexpr T round_up(T value, T unit) {
  return (value + unit - 1) / unit * unit;
}

template <typename T>
constexpr T ceil_div(T value, T unit) {
  return (value + unit - 1) / unit;
}

// Uninitialised, 64-byte aligned bytes. Throws std::bad_alloc.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t size);
  ~Buffer();
  Buffer(Buffer&& other) noexcept : data_(other.data_), size_(other.size_) {
    other.data_ = nullptr;
    other.size_ = 0;
  }
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// What a thread may hold at once while it works on a task.
enum class Scratch { kLhs, kQuantized, kRow, kBand, kPanel, kCount };

// At least `size` bytes of this thread's scratch, contents unspecified; valid until the next
// request for the same slot. Grows and is then reused, so a steady state allocates nothing. Freed
// with the thread. Throws std::bad_alloc.
uint8_t* scratch(Scratch slot, size_t size);

}  // namespace qk

#endif  // QKERNELS_CORE_MEMORY_H

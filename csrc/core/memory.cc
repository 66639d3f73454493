// SPDX-License-Identifier: Apache-2.0
#include "core/memory.h"

#include <new>
#include <utility>

namespace qk {

Buffer::Buffer(size_t size)
    : data_(static_cast<uint8_t*>(::operator new(size, std::align_val_t{kAlignment}))),
      size_(size) {}

Buffer::~Buffer() {
  if (data_ != nullptr) ::operator delete(data_, std::align_val_t{kAlignment});
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

uint8_t* scratch(Scratch slot, size_t size) {
  thread_local Buffer slots[static_cast<size_t>(Scratch::kCount)];
  Buffer& buffer = slots[static_cast<size_t>(slot)];
  if (buffer.size() < size) {
    buffer = Buffer();  // released first: the two never exist together
    buffer = Buffer(round_up(size, size_t{4096}));
  }
  return buffer.data();
}

}  // namespace qk

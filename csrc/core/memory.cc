// SPDX-License-Identifier: Apache-2.0
#include "core/memory.h"

#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace qk {

namespace {

// Sizes near the top of the address space are products that left it: rounding must not wrap.
size_t sane(size_t size) {
  if (size > (~size_t{0} >> 2)) throw std::bad_alloc();
  return size == 0 ? 1 : size;
}

// Buffers of several huge pages ask for them: a quarter of the time to touch them first, and no
// misses of the TLB where a kernel walks over many rows. A refusal costs nothing.
void prefer_huge_pages([[maybe_unused]] void* data, [[maybe_unused]] size_t size) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr size_t kHugePage = size_t{2} << 20;
  if (size < 2 * kHugePage) return;
  const auto address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t first = round_up<uintptr_t>(address, kHugePage);
  madvise(static_cast<uint8_t*>(data) + (first - address), size - (first - address), MADV_HUGEPAGE);
#endif
}

}  // namespace

Buffer::Buffer(size_t size)
    : data_(static_cast<uint8_t*>(::operator new(sane(size), std::align_val_t{kAlignment}))),
      size_(size) {
  prefer_huge_pages(data_, size);
}

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
  if (buffer.data() == nullptr || buffer.size() < size) {
    buffer = Buffer();  // released first: the two never exist together
    buffer = Buffer(round_up(sane(size), size_t{4096}));
  }
  return buffer.data();
}

}  // namespace qk

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cinttypes>
#include <cstddef>
#include <cstring>
#include <memory>

#include "core/status.h"
#include "core/thread_pool.h"
#include "core/tiers.h"
#include "pack/layout.h"

namespace qk {
namespace {

// Four independent 64-bit lanes over 32-byte blocks: memory speed. Each word is mixed before it
// meets its lane (multiply, fold the upper half down, multiply), so that no pair of flipped bits
// cancels; every step is a bijection of its lane, so that any damaged byte changes the result.
uint64_t checksum(const uint8_t* data, size_t size) {
  constexpr uint64_t kMix = 0x9e3779b97f4a7c15u;
  constexpr uint64_t kFinal = 0x6a09e667f3bcc909u;
  uint64_t lane[4] = {1, 2, 3, size};
  const auto step = [](uint64_t state, uint64_t word) {
    word *= kMix;
    word = (word ^ (word >> 32)) * kMix;
    state = (state ^ word) * kMix;
    return (state << 31) | (state >> 33);
  };
  size_t i = 0;
  for (; i + 32 <= size; i += 32) {
    for (size_t l = 0; l < 4; ++l) {
      uint64_t word = 0;
      std::memcpy(&word, data + i + 8 * l, 8);
      lane[l] = step(lane[l], word);
    }
  }
  for (; i < size; ++i) lane[i % 4] = step(lane[i % 4], data[i] + 1u);
  uint64_t sum = kFinal;
  for (const uint64_t l : lane) sum = step(sum, l);
  return sum;
}

uint64_t header_checksum(const PackedHeader& header) {
  return checksum(reinterpret_cast<const uint8_t*>(&header),
                  offsetof(PackedHeader, header_checksum));
}

constexpr int64_t kMaxExtent = int64_t{1} << 40;  // keeps every product below in 63 bits

// Sizes of a header; false when its fields cannot be.
bool sizes_of(const PackedHeader& h, PackedSizes* out) {
  const bool depthwise = h.kind == QK_DEPTHWISE;
  const bool matrix = h.kind == QK_MATRIX;
  if (!depthwise && !matrix && h.kind != QK_CONV) return false;
  if (h.dtype != QK_INT8 && h.dtype != QK_UINT8) return false;
  const LayoutId layout = depthwise ? LayoutId::k_t2c16s16 : LayoutId::k_k4n16;
  if (h.layout != static_cast<uint16_t>(layout) || h.reserved != 0) return false;
  if (h.n < 0 || h.k < 0 || h.c < 0 || h.n > kMaxExtent || h.k > kMaxExtent) return false;
  if (h.kh == 0 || h.kw == 0 || h.groups == 0 || h.n % h.groups != 0) return false;
  if (h.kh > 0xffff || h.kw > 0xffff || h.c > (int64_t{1} << 31)) return false;
  if (h.k != int64_t{h.kh} * h.kw * h.c) return false;
  if (matrix && (h.groups != 1 || h.kh != 1 || h.kw != 1)) return false;
  if (depthwise && h.c != 1) return false;
  PackedSizes s{};
  s.n_group = depthwise ? h.n : h.n / h.groups;
  s.panels = ceil_div<int64_t>(s.n_group, kPanel);
  const int64_t groups = depthwise ? 1 : h.groups;
  s.k_pad = depthwise ? round_up<int64_t>(h.k, 2) : round_up(h.k, kLayoutKr);
  s.columns_pad = groups * s.panels * kPanel;
  const int64_t element = depthwise ? 2 : 1;
  if (s.columns_pad > kMaxExtent ||
      (s.k_pad > 0 && s.columns_pad > (int64_t{1} << 60) / (s.k_pad * element))) {
    return false;
  }
  s.panel_bytes = static_cast<size_t>(s.k_pad * kPanel * element);
  s.group_bytes = s.panel_bytes * static_cast<size_t>(s.panels);
  const size_t column_bytes = static_cast<size_t>(s.columns_pad) * sizeof(int32_t);
  s.sums_offset = sizeof(PackedHeader) + s.group_bytes * static_cast<size_t>(groups);
  s.zero_offset = s.sums_offset + column_bytes;
  s.total = depthwise ? s.zero_offset + column_bytes : s.zero_offset + kPackedSlack;
  *out = s;
  return true;
}

// Element (i, row, col, channel) of the weights given, as in qk_pack_conv.
struct Source {
  const uint8_t* data;
  ptrdiff_t strides[4];
  const uint8_t* at(int64_t o, int64_t y, int64_t x, int64_t i) const {
    return data + o * strides[0] + y * strides[1] + x * strides[2] + i * strides[3];
  }
};

// One panel of k4n16: columns first..first + columns of the source.
void pack_k4n16_panel(const Source& src, const PackedHeader& h, const PackedSizes& sizes,
                      int64_t first, int64_t columns, int8_t* panel, int32_t* sums) {
  const uint8_t flip = h.dtype == QK_UINT8 ? 0x80 : 0;
  std::memset(panel, 0, sizes.panel_bytes);
  std::memset(sums, 0, kPanel * sizeof(int32_t));
  for (int64_t n = 0; n < columns; ++n) {
    int64_t k = 0;
    uint32_t sum = 0;  // wraps with the int32 arithmetic that uses it
    for (int64_t y = 0; y < h.kh; ++y) {
      for (int64_t x = 0; x < h.kw; ++x) {
        const uint8_t* from = src.at(first + n, y, x, 0);
        for (int64_t i = 0; i < h.c; ++i, ++k, from += src.strides[3]) {
          const auto value = static_cast<int8_t>(*from ^ flip);
          sum += static_cast<uint32_t>(int32_t{value});
          panel[k / kLayoutKr * kLayoutKr * kPanel + n * kLayoutKr + k % kLayoutKr] = value;
        }
      }
    }
    sums[n] = static_cast<int32_t>(sum);
  }
}

void pack_t2c16s16_panel(const Source& src, const PackedHeader& h, const PackedSizes& sizes,
                         int64_t first, int64_t channels, const int32_t* zero_point, int16_t* panel,
                         int32_t* sums) {
  std::memset(panel, 0, sizes.panel_bytes);
  std::memset(sums, 0, kPanel * sizeof(int32_t));
  for (int64_t c = 0; c < channels; ++c) {
    uint32_t sum = 0;  // wraps with the int32 arithmetic that uses it
    for (int64_t k = 0; k < h.k; ++k) {
      const uint8_t byte = *src.at(first + c, k / h.kw, k % h.kw, 0);
      const int32_t value =
          (h.dtype == QK_UINT8 ? byte : static_cast<int8_t>(byte)) - zero_point[c];
      sum += static_cast<uint32_t>(value);
      panel[k / 2 * 2 * kPanel + c * 2 + k % 2] = static_cast<int16_t>(value);
    }
    sums[c] = static_cast<int32_t>(sum);
  }
}

qk_status new_packed(PackedHeader header, std::unique_ptr<qk_packed>* out) {
  header.magic = kPackedMagic;
  header.version = kPackedVersion;
  auto packed = std::make_unique<qk_packed>();
  if (!sizes_of(header, &packed->sizes)) {
    return fail(QK_INVALID_ARGUMENT, "weights of n = %" PRId64 ", k = %" PRId64 " cannot be packed",
                header.n, header.k);
  }
  packed->header = header;
  packed->owned = Buffer(packed->sizes.total);
  packed->data = packed->owned.data();
  *out = std::move(packed);
  return QK_OK;
}

// Fills the slack and both checksums: the packed bytes are final.
void seal(qk_packed* packed) {
  uint8_t* const bytes = packed->owned.data();
  const size_t used =
      packed->is_depthwise() ? packed->sizes.total : packed->sizes.total - kPackedSlack;
  std::memset(bytes + used, 0, packed->sizes.total - used);
  PackedHeader& header = packed->header;
  header.body_checksum =
      checksum(bytes + sizeof(PackedHeader), packed->sizes.total - sizeof(PackedHeader));
  header.header_checksum = header_checksum(header);
  std::memcpy(bytes, &header, sizeof(header));
}

void pack_panels(const Source& src, qk_packed* packed, const int32_t* zero_point,
                 size_t n_zero_point) {
  const PackedHeader& h = packed->header;
  const PackedSizes& sizes = packed->sizes;
  uint8_t* const bytes = packed->owned.data();
  uint8_t* const panels = bytes + sizeof(PackedHeader);
  auto* const sums = reinterpret_cast<int32_t*>(bytes + sizes.sums_offset);
  const auto pack_one = [&](size_t index) {
    const int64_t group = static_cast<int64_t>(index) / sizes.panels;
    const int64_t start = static_cast<int64_t>(index) % sizes.panels * kPanel;
    const int64_t columns = std::min<int64_t>(kPanel, sizes.n_group - start);
    const int64_t first = group * sizes.n_group + start;
    uint8_t* panel = panels + index * sizes.panel_bytes;
    int32_t* panel_sums = sums + index * kPanel;
    if (!packed->is_depthwise()) {
      pack_k4n16_panel(src, h, sizes, first, columns, reinterpret_cast<int8_t*>(panel), panel_sums);
      return;
    }
    int32_t* zero = reinterpret_cast<int32_t*>(bytes + sizes.zero_offset) + index * kPanel;
    for (int64_t c = 0; c < kPanel; ++c) {
      zero[c] = n_zero_point == 0 || c >= columns ? 0
                : n_zero_point == 1               ? zero_point[0]
                                                  : zero_point[first + c];
    }
    pack_t2c16s16_panel(src, h, sizes, first, columns, zero, reinterpret_cast<int16_t*>(panel),
                        panel_sums);
  };
  constexpr size_t kWorthThreads = 1 << 18;  // bytes: about 100 microseconds of packing
  const auto count = static_cast<size_t>(sizes.columns_pad / kPanel);
  if (sizes.total < kWorthThreads) {
    for (size_t i = 0; i < count; ++i) pack_one(i);
  } else {
    parallel_for(count, pack_one);
  }
}

bool in_range(int32_t zero_point, qk_dtype dtype) {
  return dtype == QK_UINT8 ? zero_point >= 0 && zero_point <= 255
                           : zero_point >= -128 && zero_point <= 127;
}

// Depthwise panels hold w - zero_point: values that no packing makes are damage, and would break
// the bound on the sums.
bool possible_depthwise(const qk_packed& packed) {
  const auto dtype = static_cast<qk_dtype>(packed.header.dtype);
  const auto* values = reinterpret_cast<const int16_t*>(packed.panels());
  const size_t count = packed.sizes.group_bytes / sizeof(int16_t);
  bool possible = true;
  for (size_t i = 0; i < count; ++i) possible &= values[i] >= -255 && values[i] <= 255;
  for (int64_t c = 0; c < packed.sizes.columns_pad; ++c) {
    possible &= in_range(packed.zero_points()[c], dtype);
  }
  return possible;
}

qk_status check_weight_dtype(qk_dtype dtype) {
  if (dtype == QK_INT8 || dtype == QK_UINT8) return QK_OK;
  return fail(QK_INVALID_ARGUMENT, "weights must be int8 or uint8, got dtype code %d", dtype);
}

}  // namespace
}  // namespace qk

using qk::fail;

qk_status qk_pack_matrix(const void* w, qk_dtype dtype, int64_t n, int64_t k, ptrdiff_t n_stride,
                         ptrdiff_t k_stride, qk_packed** out) {
  return qk::guarded([&] {
    QK_RETURN_IF_ERROR(qk::check_weight_dtype(dtype));
    qk::PackedHeader header{};
    header.layout = static_cast<uint16_t>(qk::LayoutId::k_k4n16);
    header.kind = QK_MATRIX;
    header.dtype = static_cast<uint8_t>(dtype);
    header.groups = header.kh = header.kw = 1;
    header.n = n;
    header.k = header.c = k;
    std::unique_ptr<qk_packed> packed;
    QK_RETURN_IF_ERROR(qk::new_packed(header, &packed));
    const qk::Source src{static_cast<const uint8_t*>(w), {n_stride, 0, 0, k_stride}};
    qk::pack_panels(src, packed.get(), nullptr, 0);
    qk::seal(packed.get());
    *out = packed.release();
    return QK_OK;
  });
}

qk_status qk_pack_conv(const void* w, qk_dtype dtype, const int64_t shape[4],
                       const ptrdiff_t strides[4], int64_t groups, const int32_t* zero_point,
                       size_t n_zero_point, qk_packed** out) {
  return qk::guarded([&] {
    QK_RETURN_IF_ERROR(qk::check_weight_dtype(dtype));
    if (groups < 1 || groups > 0xffffffff || shape[0] % groups != 0) {
      return fail(QK_INVALID_ARGUMENT,
                  "groups must divide the output channels: got groups = %" PRId64
                  ", output channels = %" PRId64,
                  groups, shape[0]);
    }
    if (shape[1] < 1 || shape[2] < 1 || shape[1] > 0xffff || shape[2] > 0xffff) {
      return fail(QK_INVALID_ARGUMENT,
                  "kernel size must be 1 to 65535 each way, got %" PRId64 " x %" PRId64, shape[1],
                  shape[2]);
    }
    if (shape[3] < 0 || shape[3] > (int64_t{1} << 31)) {
      return fail(QK_INVALID_ARGUMENT, "input channels a group must be 0 to 2^31, got %" PRId64,
                  shape[3]);
    }
    const bool depthwise = groups > 1 && shape[3] == 1;
    const auto channels = static_cast<size_t>(shape[0]);
    if (n_zero_point > 1 && n_zero_point != channels) {
      return fail(QK_INVALID_ARGUMENT, "expected 1 or %zu weight zero points, got %zu", channels,
                  n_zero_point);
    }
    for (size_t i = 0; i < n_zero_point; ++i) {
      if (qk::in_range(zero_point[i], dtype)) continue;
      return fail(QK_INVALID_ARGUMENT, "weight_zero_point must lie in the range of %s, got %d",
                  dtype == QK_UINT8 ? "uint8" : "int8", zero_point[i]);
    }
    qk::PackedHeader header{};
    header.layout =
        static_cast<uint16_t>(depthwise ? qk::LayoutId::k_t2c16s16 : qk::LayoutId::k_k4n16);
    header.kind = depthwise ? QK_DEPTHWISE : QK_CONV;
    header.dtype = static_cast<uint8_t>(dtype);
    header.groups = static_cast<uint32_t>(groups);
    header.n = shape[0];
    header.kh = static_cast<uint32_t>(shape[1]);
    header.kw = static_cast<uint32_t>(shape[2]);
    header.c = shape[3];
    header.k = shape[1] * shape[2] * shape[3];
    std::unique_ptr<qk_packed> packed;
    QK_RETURN_IF_ERROR(qk::new_packed(header, &packed));
    const qk::Source src{static_cast<const uint8_t*>(w),
                         {strides[0], strides[1], strides[2], strides[3]}};
    qk::pack_panels(src, packed.get(), zero_point, depthwise ? n_zero_point : 0);
    qk::seal(packed.get());
    *out = packed.release();
    return QK_OK;
  });
}

qk_status qk_packed_from_bytes(const void* bytes, size_t size, qk_packed** out) {
  return qk::guarded([&] {
    qk::PackedHeader header{};
    if (size < sizeof(header)) {
      return fail(QK_DAMAGED, "packed weights are damaged: %zu bytes are shorter than a header",
                  size);
    }
    std::memcpy(&header, bytes, sizeof(header));
    if (header.magic != qk::kPackedMagic) {
      return fail(QK_DAMAGED, "packed weights are damaged: wrong magic number");
    }
    if (header.version != qk::kPackedVersion) {
      return fail(QK_DAMAGED, "packed weights are of version %u, this library reads version %u",
                  header.version, qk::kPackedVersion);
    }
    auto packed = std::make_unique<qk_packed>();
    if (header.header_checksum != qk::header_checksum(header) ||
        !qk::sizes_of(header, &packed->sizes)) {
      return fail(QK_DAMAGED, "packed weights are damaged: the header fails its check");
    }
    if (packed->sizes.total != size) {
      return fail(QK_DAMAGED, "packed weights are damaged: %zu bytes, the header says %zu", size,
                  packed->sizes.total);
    }
    const auto* body = static_cast<const uint8_t*>(bytes) + sizeof(header);
    if (header.body_checksum != qk::checksum(body, size - sizeof(header))) {
      return fail(QK_DAMAGED, "packed weights are damaged: the checksum is wrong");
    }
    packed->header = header;
    if (reinterpret_cast<uintptr_t>(bytes) % qk::kAlignment == 0) {
      packed->data = static_cast<const uint8_t*>(bytes);
    } else {
      packed->owned = qk::Buffer(size);
      std::memcpy(packed->owned.data(), bytes, size);
      packed->data = packed->owned.data();
    }
    if (packed->is_depthwise() && !qk::possible_depthwise(*packed)) {
      return fail(QK_DAMAGED, "packed weights are damaged: values that no packing makes");
    }
    *out = packed.release();
    return QK_OK;
  });
}

void qk_packed_free(qk_packed* packed) { delete packed; }

qk_status qk_packed_describe(const qk_packed* packed, qk_packed_info* info) {
  const qk::PackedHeader& h = packed->header;
  info->kind = static_cast<qk_packed_kind>(h.kind);
  info->dtype = static_cast<qk_dtype>(h.dtype);
  info->layout = packed->is_depthwise() ? "t2c16s16" : "k4n16";
  info->n = h.n;
  info->k = h.k;
  info->kh = h.kh;
  info->kw = h.kw;
  info->c = h.c;
  info->groups = h.groups;
  info->size = packed->sizes.total;
  return QK_OK;
}

const void* qk_packed_bytes(const qk_packed* packed) { return packed->bytes(); }

int qk_packed_native(const qk_packed* packed) {
  const qk::ResolvedTier& tier = qk::active_tier();
  return packed->is_depthwise() ? qk::select_depthwise(tier, packed->layout()) != nullptr
                                : qk::select_gemm(tier, packed->layout(), true, 1) != nullptr;
}

qk_status qk_unpack(const qk_packed* packed, void* w) {
  const qk::PackedHeader& h = packed->header;
  const qk::PackedSizes& sizes = packed->sizes;
  auto* out = static_cast<uint8_t*>(w);
  const uint8_t flip = h.dtype == QK_UINT8 ? 0x80 : 0;
  for (int64_t n = 0; n < h.n; ++n) {
    const int64_t column = packed->column(n);
    const uint8_t* panel =
        packed->panels() + static_cast<size_t>(column / qk::kPanel) * sizes.panel_bytes;
    const int64_t lane = column % qk::kPanel;
    for (int64_t k = 0; k < h.k; ++k, ++out) {
      if (packed->is_depthwise()) {
        const auto* pairs = reinterpret_cast<const int16_t*>(panel);
        *out = static_cast<uint8_t>(pairs[k / 2 * 2 * qk::kPanel + lane * 2 + k % 2] +
                                    packed->zero_points()[column]);
      } else {
        *out = panel[k / qk::kLayoutKr * qk::kLayoutKr * qk::kPanel + lane * qk::kLayoutKr +
                     k % qk::kLayoutKr] ^
               flip;
      }
    }
  }
  return QK_OK;
}

// SPDX-License-Identifier: Apache-2.0
#include <cinttypes>
#include <cstddef>
#include <cstring>
#include <memory>

#include "core/status.h"
#include "core/tiers.h"
#include "pack/checksum.h"
#include "pack/layout.h"
#include "pack/panels.h"

namespace qk {
namespace {

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

// Packs, and writes the header with both checksums: the packed bytes are final.
void fill(qk_packed* packed, const Weights<const uint8_t>& src, const int32_t* zero_point,
          size_t n_zero_point) {
  PackedHeader& header = packed->header;
  header.body_checksum = pack_body(src, packed, zero_point, n_zero_point);
  header.header_checksum = header_checksum(header);
  std::memcpy(packed->owned.data(), &header, sizeof(header));
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
    qk::fill(packed.get(), {static_cast<const uint8_t*>(w), {n_stride, 0, 0, k_stride}}, nullptr,
             0);
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
    qk::fill(packed.get(),
             {static_cast<const uint8_t*>(w), {strides[0], strides[1], strides[2], strides[3]}},
             zero_point, depthwise ? n_zero_point : 0);
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
  const ptrdiff_t strides[4] = {h.k, h.kw * h.c, h.c, 1};
  return qk_unpack_strided(packed, w, strides);
}

qk_status qk_unpack_strided(const qk_packed* packed, void* w, const ptrdiff_t strides[4]) {
  return qk::guarded([&] {
    qk::unpack_body(*packed,
                    {static_cast<uint8_t*>(w), {strides[0], strides[1], strides[2], strides[3]}});
    return QK_OK;
  });
}

// SPDX-License-Identifier: Apache-2.0
//
// Float weights to int8, symmetric by the channel, each channel read while it is in the cache.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "core/memory.h"
#include "core/status.h"
#include "core/thread_pool.h"
#include "core/tiers.h"

namespace qk {
namespace {

constexpr int32_t kLargest = 127;
constexpr int64_t kPiece = 16384;  // elements a task: 64 KiB
constexpr int64_t kBuffer = 256;   // elements with a scale of their own at once
constexpr int64_t kShort = 64;     // channels below do not pay for calls of their own

// Weights [outer][channels][inner], what they become, and whether all were finite.
class WeightQuantizer {
 public:
  WeightQuantizer(const float* w, const qk_shape3& shape, int8_t* q, float* scale)
      : w_(w), shape_(shape), q_(q), scale_(scale), tier_(active_tier().table) {}

  bool run() {
    const bool innermost = shape_.inner == 1 && shape_.outer > 1;
    const int64_t depth = std::max<int64_t>(shape_.outer * shape_.inner, 1);
    // Of channels side by side a task reads pieces of rows: of a few cache lines at least.
    const int64_t wanted = std::max<int64_t>(kPiece / depth, innermost ? 4 * kPanel : 1);
    const int64_t a_task = std::min(wanted, std::max<int64_t>(shape_.channels, 1));
    const auto task = [&](size_t index) {
      const int64_t first = static_cast<int64_t>(index) * a_task;
      const int64_t last = std::min(shape_.channels, first + a_task);
      if (innermost) return columns(first, last - first);
      if (shape_.outer == 1 && shape_.inner < kShort) return short_runs(first, last);
      for (int64_t channel = first; channel < last; ++channel) runs(channel);
    };
    parallel_for(static_cast<size_t>(ceil_div(shape_.channels, a_task)), task);
    return finite_.load(std::memory_order_relaxed);
  }

 private:
  static float scale_of(float amax) {
    const float scale = amax / static_cast<float>(kLargest);
    return scale > 0 ? scale : 1.0f;
  }

  // One scale for all, or one an element.
  void quantize(int64_t first, int64_t count, const float* scale, bool per_element) const {
    static constexpr int32_t kZeros[kBuffer] = {};
    uint32_t nan = 0;
    const QuantizeArgs args{w_ + first,  Real::kFloat32,
                            q_ + first,  static_cast<size_t>(count),
                            scale,       kZeros,
                            per_element, -kLargest,
                            kLargest,    &nan};
    tier_.quantize(&args);
  }

  // Magnitudes are compared by their bits, which are in the same order and put infinities and NaN
  // above all numbers.
  static int32_t magnitude(const float* value) {
    uint32_t bits = 0;
    std::memcpy(&bits, value, sizeof(bits));
    return static_cast<int32_t>(bits & 0x7fffffffu);
  }

  // False when the largest magnitude of a channel is no number.
  bool set_scale(int64_t channel, int32_t largest) {
    constexpr int32_t kInfinity = 0x7f800000;
    if (largest >= kInfinity) {
      finite_.store(false, std::memory_order_relaxed);
      return false;
    }
    float amax = 0;
    std::memcpy(&amax, &largest, sizeof(amax));
    scale_[channel] = scale_of(amax);
    return true;
  }

  // A channel in `outer` runs of `inner`.
  void runs(int64_t channel) {
    float amax = 0;
    for (int64_t o = 0; o < shape_.outer; ++o) {
      RangeArgs range{};
      range.src = w_ + (o * shape_.channels + channel) * shape_.inner;
      range.type = Real::kFloat32;
      range.n = static_cast<size_t>(shape_.inner);
      tier_.range(&range);
      if (!range.finite) return finite_.store(false, std::memory_order_relaxed);
      amax = std::max(amax, range.amax);
    }
    scale_[channel] = scale_of(amax);
    for (int64_t o = 0; o < shape_.outer; ++o) {
      quantize((o * shape_.channels + channel) * shape_.inner, shape_.inner, &scale_[channel],
               false);
    }
  }

  // Channels of few elements, one after the other.
  void short_runs(int64_t first, int64_t last) {
    if (shape_.inner == 0) return std::fill(scale_ + first, scale_ + last, 1.0f);
    const int64_t at_once = kBuffer / shape_.inner;
    for (int64_t begin = first; begin < last; begin += at_once) {
      const int64_t end = std::min(last, begin + at_once);
      float scale[kBuffer];
      float* to = scale;
      for (int64_t channel = begin; channel < end; ++channel, to += shape_.inner) {
        int32_t largest = 0;
        for (int64_t i = 0; i < shape_.inner; ++i) {
          largest = std::max(largest, magnitude(w_ + channel * shape_.inner + i));
        }
        if (!set_scale(channel, largest)) return;
        std::fill_n(to, shape_.inner, scale_[channel]);
      }
      quantize(begin * shape_.inner, (end - begin) * shape_.inner, scale, true);
    }
  }

  // `count` channels side by side in `outer` rows.
  void columns(int64_t first, int64_t count) {
    for (int64_t width = 0; count > 0; first += width, count -= width) {
      width = std::min(count, kBuffer);
      int32_t largest[kBuffer] = {};
      for (int64_t o = 0; o < shape_.outer; ++o) {
        const float* const row = w_ + o * shape_.channels + first;
        for (int64_t c = 0; c < width; ++c) largest[c] = std::max(largest[c], magnitude(row + c));
      }
      for (int64_t c = 0; c < width; ++c) {
        if (!set_scale(first + c, largest[c])) return;
      }
      for (int64_t o = 0; o < shape_.outer; ++o) {
        quantize(o * shape_.channels + first, width, scale_ + first, true);
      }
    }
  }

  const float* const w_;
  const qk_shape3 shape_;
  int8_t* const q_;
  float* const scale_;
  const Tier& tier_;
  std::atomic<bool> finite_{true};
};

}  // namespace
}  // namespace qk

qk_status qk_quantize_weights(const float* w, qk_shape3 shape, int8_t* q, float* scale) {
  return qk::guarded([&] {
    if (shape.outer < 0 || shape.channels < 0 || shape.inner < 0) {
      return qk::fail(QK_INVALID_ARGUMENT, "extents must not be negative");
    }
    if (qk::WeightQuantizer(w, shape, q, scale).run()) return QK_OK;
    return qk::fail(QK_NOT_FINITE, "w must be finite, got an infinity or NaN");
  });
}

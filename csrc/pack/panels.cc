// SPDX-License-Identifier: Apache-2.0
//
// A kernel packs a matrix w[n][k]: one distance from a column to the next, one from a k to the
// next. Convolution weights are one where their k = (row, col, i) run at a single distance (OHWI,
// HWIO). In OIHW they do in another order, k' = (i, row, col): they are packed by k', unpacked to
// rows of sixteen columns, and the rows are taken in the order of k, all within a panel's scratch.
#include "pack/panels.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <new>

#include "core/thread_pool.h"
#include "core/tiers.h"
#include "pack/checksum.h"

namespace qk {
namespace {

// Which order of k lies at one distance in memory.
enum class Order { kTapsFirst, kChannelsFirst, kNone };

struct Run {
  Order order;
  ptrdiff_t stride;  // from one k to the next in that order
};

// How the depth of weights of this shape runs through memory. Extents of 1 have no distance.
Run run_of(const PackedHeader& h, const ptrdiff_t (&strides)[4]) {
  struct Axis {
    int64_t extent;
    ptrdiff_t stride;
  };
  const auto run_along = [](std::initializer_list<Axis> axes, ptrdiff_t* stride) {
    bool first = true;
    ptrdiff_t next = 0;  // what the stride of the next outer axis must be
    for (const Axis& axis : axes) {
      if (axis.extent == 1) continue;
      if (first) *stride = axis.stride;
      if (!first && axis.stride != next) return false;
      next = axis.stride * axis.extent;
      first = false;
    }
    return true;
  };
  const Axis row{h.kh, strides[1]};
  const Axis col{h.kw, strides[2]};
  const Axis channel{h.c, strides[3]};
  Run run{Order::kTapsFirst, 1};
  if (run_along({channel, col, row}, &run.stride)) return run;
  run.order = Order::kChannelsFirst;
  if (run_along({col, row, channel}, &run.stride)) return run;
  return {Order::kNone, 1};
}

// Packs or unpacks the panels of one object. Memory for a panel: rows of kPanel bytes, one a k, in
// two scratch areas that hold k rounded up to the layout's step.
class Panels {
 public:
  Panels(const PackedHeader& h, const PackedSizes& sizes, const ptrdiff_t (&strides)[4])
      : h_(h),
        sizes_(sizes),
        tier_(active_tier().table),
        run_(run_of(h, strides)),
        depth_(static_cast<size_t>(h.k)),
        area_(static_cast<size_t>(round_up(h.k, kLayoutKr)) * kPanel) {
    // Rows of the source are shared by the panels side by side: the more panels at once, the more
    // of a cache line and of a page is used while it is at hand.
    const bool shared = h.kind != QK_DEPTHWISE && strides[0] == 1 && run_.stride != 1;
    const int64_t few = static_cast<int64_t>(kTaskBytes / std::max<size_t>(sizes.panel_bytes, 1));
    const int64_t fair = sizes.panels / (2 * std::max(num_threads(), 1));
    at_once_ = std::max<int64_t>({1, few, shared ? std::clamp<int64_t>(fair, 4, 64) : 1});
    at_once_ = std::min(at_once_, std::max<int64_t>(sizes.panels, 1));
    tasks_ = sizes.panels == 0 ? 0 : ceil_div(sizes.panels, at_once_) * groups();
  }

  // Panels side by side, all of one group.
  struct Task {
    int64_t panel;  // the first, counted over all groups
    int64_t panels;
    int64_t column;  // the first, of the weights as given
    int64_t columns;
  };

  Task task(size_t index) const {
    const int64_t a_group = ceil_div(sizes_.panels, at_once_);
    const int64_t group = static_cast<int64_t>(index) / a_group;
    const int64_t first = static_cast<int64_t>(index) % a_group * at_once_;
    const int64_t panels = std::min(at_once_, sizes_.panels - first);
    return {group * sizes_.panels + first, panels, group * sizes_.n_group + first * kPanel,
            std::min<int64_t>(panels * kPanel, sizes_.n_group - first * kPanel)};
  }

  // Runs body(index) for all tasks, on threads where that is worth it. Throws std::bad_alloc.
  template <typename Body>
  void for_tasks(const Body& body) const {
    constexpr size_t kWorthThreads = size_t{1} << 19;  // bytes: about 60 microseconds
    std::atomic<bool> out_of_memory{false};
    const auto guarded_body = [&](size_t index) {
      try {
        body(index);
      } catch (const std::bad_alloc&) {
        out_of_memory.store(true, std::memory_order_relaxed);
      }
    };
    const auto count = static_cast<size_t>(tasks_);
    if (sizes_.total < kWorthThreads) {
      for (size_t i = 0; i < count; ++i) guarded_body(i);
    } else {
      parallel_for(count, guarded_body);
    }
    if (out_of_memory.load(std::memory_order_relaxed)) throw std::bad_alloc();
  }

  size_t tasks() const { return static_cast<size_t>(tasks_); }

  // Panel p of a task alone.
  static Task one(const Task& task, int64_t p) {
    return {task.panel + p, 1, task.column + p * kPanel,
            std::min<int64_t>(kPanel, task.columns - p * kPanel)};
  }

  // k4n16.
  void pack(const Weights<const uint8_t>& src, const Task& task, uint8_t* panels,
            int32_t* sums) const {
    const auto stride = static_cast<ptrdiff_t>(sizes_.panel_bytes);
    if (run_.order == Order::kTapsFirst) {
      const PackRhsArgs args{src.at(task.column, 0, 0, 0),
                             src.strides[0],
                             run_.stride,
                             static_cast<size_t>(task.columns),
                             depth_,
                             panels,
                             stride,
                             sums,
                             flip(),
                             stream()};
      tier_.pack_rhs(&args);
      return;
    }
    for (int64_t p = 0; p < task.panels; ++p) {
      pack_rows(gather_rows(src, one(task, p), flip()), panels + p * stride, sums + p * kPanel);
    }
  }

  void unpack(const uint8_t* panels, const Task& task, const Weights<uint8_t>& dst) const {
    const auto stride = static_cast<ptrdiff_t>(sizes_.panel_bytes);
    if (run_.order == Order::kTapsFirst) {
      const UnpackRhsArgs args{panels,         stride,      dst.at(task.column, 0, 0, 0),
                               dst.strides[0], run_.stride, static_cast<size_t>(task.columns),
                               depth_,         flip()};
      tier_.unpack_rhs(&args);
      return;
    }
    for (int64_t p = 0; p < task.panels; ++p) {
      uint8_t* const rows = area(0);
      unpack_rows(panels + p * stride, rows);
      scatter_rows(rows, dst, one(task, p), flip());
    }
  }

  // t2c16s16, one panel.
  void pack_depthwise(const Weights<const uint8_t>& src, const Task& task, const int32_t* zero,
                      int16_t* panel, int32_t* sums) const {
    const uint8_t* const rows = gather_rows(src, task, false);
    if (h_.dtype == QK_UINT8) {
      widen_taps(rows, zero, panel, sums);
    } else {
      widen_taps(reinterpret_cast<const int8_t*>(rows), zero, panel, sums);
    }
  }

  void unpack_depthwise(const int16_t* panel, const int32_t* zero, const Task& task,
                        const Weights<uint8_t>& dst) const {
    uint8_t* const rows = area(0);
    for (size_t k = 0; k < depth_; ++k) {
      const int16_t* const taps = panel + k / 2 * 2 * kPanel + k % 2;
      for (size_t c = 0; c < kPanel; ++c) {
        rows[k * kPanel + c] = static_cast<uint8_t>(taps[2 * c] + zero[c]);
      }
    }
    scatter_rows(rows, dst, task, false);
  }

 private:
  static constexpr size_t kTaskBytes = size_t{1} << 14;  // of small panels a task takes several

  int64_t groups() const { return h_.kind == QK_DEPTHWISE ? 1 : h_.groups; }
  bool flip() const { return h_.dtype == QK_UINT8; }
  bool stream() const { return sizes_.total > (size_t{8} << 20); }

  uint8_t* area(size_t index) const { return scratch(Scratch::kLhs, 2 * area_) + index * area_; }

  // Between a panel and rows of kPanel bytes, one a k.
  void pack_rows(const uint8_t* rows, uint8_t* panel, int32_t* sums) const {
    const PackRhsArgs args{rows, 1, kPanel, kPanel, depth_, panel, 0, sums, false, false};
    tier_.pack_rhs(&args);
  }
  void unpack_rows(const uint8_t* panel, uint8_t* rows) const {
    const UnpackRhsArgs args{panel, 0, rows, 1, kPanel, kPanel, depth_, false};
    tier_.unpack_rhs(&args);
  }

  // Calls body(row of k, row of k') for rows in both orders.
  template <typename Body>
  void for_orders(Body body) const {
    const size_t taps = size_t{h_.kh} * h_.kw;
    const auto channels = static_cast<size_t>(h_.c);
    for (size_t tap = 0; tap < taps; ++tap) {
      for (size_t i = 0; i < channels; ++i) {
        body((tap * channels + i) * kPanel, (i * taps + tap) * kPanel);
      }
    }
  }

  // The columns of one panel as rows, those of padding 0; in scratch, until the next call.
  const uint8_t* gather_rows(const Weights<const uint8_t>& src, const Task& task,
                             bool flipped) const {
    uint8_t* const first = area(0);
    uint8_t* const second = area(1);
    if (run_.order == Order::kNone) {
      std::memset(second, 0, area_);
      for_elements(src, task, [&](size_t at, const uint8_t* byte) {
        second[at] = flipped ? *byte ^ 0x80 : *byte;
      });
      return second;
    }
    int32_t sums[kPanel];
    const PackRhsArgs args{src.at(task.column, 0, 0, 0),
                           src.strides[0],
                           run_.stride,
                           static_cast<size_t>(task.columns),
                           depth_,
                           first,
                           0,
                           sums,
                           flipped,
                           false};
    tier_.pack_rhs(&args);
    unpack_rows(first, second);
    if (run_.order == Order::kTapsFirst) return second;
    for_orders([&](size_t k, size_t other) { std::memcpy(first + k, second + other, kPanel); });
    return first;
  }

  // The inverse. rows: area(0), overwritten.
  void scatter_rows(uint8_t* rows, const Weights<uint8_t>& dst, const Task& task,
                    bool flipped) const {
    uint8_t* const second = area(1);
    if (run_.order == Order::kNone) {
      for_elements(dst, task,
                   [&](size_t at, uint8_t* byte) { *byte = flipped ? rows[at] ^ 0x80 : rows[at]; });
      return;
    }
    int32_t sums[kPanel];
    uint8_t* panel = second;
    if (run_.order == Order::kTapsFirst) {
      pack_rows(rows, panel, sums);
    } else {
      for_orders([&](size_t k, size_t other) { std::memcpy(second + other, rows + k, kPanel); });
      panel = rows;
      pack_rows(second, panel, sums);
    }
    const UnpackRhsArgs args{panel,          0,           dst.at(task.column, 0, 0, 0),
                             dst.strides[0], run_.stride, static_cast<size_t>(task.columns),
                             depth_,         flipped};
    tier_.unpack_rhs(&args);
  }

  // Calls body(index in rows, element) for weights that no order runs through.
  template <typename Byte, typename Body>
  void for_elements(const Weights<Byte>& weights, const Task& task, Body body) const {
    for (int64_t n = 0; n < task.columns; ++n) {
      size_t at = static_cast<size_t>(n);
      for (int64_t row = 0; row < h_.kh; ++row) {
        for (int64_t col = 0; col < h_.kw; ++col) {
          for (int64_t i = 0; i < h_.c; ++i, at += kPanel) {
            body(at, weights.at(task.column + n, row, col, i));
          }
        }
      }
    }
  }

  // Pairs of taps, their zero points taken off; those of padding are 0.
  template <typename Code>
  void widen_taps(const Code* rows, const int32_t* zero, int16_t* panel, int32_t* sums) const {
    std::memset(panel, 0, sizes_.panel_bytes);
    uint32_t total[kPanel] = {};  // wraps with the int32 arithmetic that uses it
    for (size_t k = 0; k < depth_; ++k) {
      int16_t* const taps = panel + k / 2 * 2 * kPanel + k % 2;
      for (size_t c = 0; c < kPanel; ++c) {
        const int32_t value = rows[k * kPanel + c] - zero[c];
        total[c] += static_cast<uint32_t>(value);
        taps[2 * c] = static_cast<int16_t>(value);
      }
    }
    std::memcpy(sums, total, sizeof(total));
  }

  const PackedHeader& h_;
  const PackedSizes& sizes_;
  const Tier& tier_;
  const Run run_;
  const size_t depth_;
  const size_t area_;
  int64_t at_once_ = 1;
  int64_t tasks_ = 0;
};

// The checksum of pieces that are finished in any order, by any thread: whoever finishes the next
// one in line takes it, and those that waited for it, while they are in its cache.
class ChecksumInOrder {
 public:
  ChecksumInOrder(size_t size, size_t pieces)
      : sum_(size), pieces_(pieces), done_(std::make_unique<std::atomic<bool>[]>(pieces)) {
    for (size_t i = 0; i < pieces; ++i) done_[i].store(false, std::memory_order_relaxed);
  }

  // add(Checksum&, index) adds the piece of that index.
  template <typename Add>
  void finished(size_t piece, const Add& add) {
    done_[piece].store(true);
    // Someone who finds the lock taken leaves its piece to the owner, who looks again after
    // releasing it.
    while (ready()) {
      const std::unique_lock<std::mutex> owner(mutex_, std::try_to_lock);
      if (!owner.owns_lock()) return;
      for (; ready(); next_.fetch_add(1)) add(sum_, next_.load());
    }
  }

  Checksum& sum() { return sum_; }  // once all are finished

 private:
  bool ready() const {
    const size_t next = next_.load();
    return next < pieces_ && done_[next].load();
  }

  Checksum sum_;
  const size_t pieces_;
  const std::unique_ptr<std::atomic<bool>[]> done_;
  std::atomic<size_t> next_{0};
  std::mutex mutex_;
};

}  // namespace

uint64_t pack_body(const Weights<const uint8_t>& src, qk_packed* packed, const int32_t* zero_point,
                   size_t n_zero_point) {
  const PackedSizes& sizes = packed->sizes;
  uint8_t* const bytes = packed->owned.data();
  uint8_t* const body = bytes + sizeof(PackedHeader);
  auto* const sums = reinterpret_cast<int32_t*>(bytes + sizes.sums_offset);
  auto* const zeros = reinterpret_cast<int32_t*>(bytes + sizes.zero_offset);
  const size_t body_bytes = sizes.total - sizeof(PackedHeader);
  const Panels panels(packed->header, sizes, src.strides);
  ChecksumInOrder sum(body_bytes, panels.tasks());
  const auto bytes_of = [&](const Panels::Task& task) {
    return body + static_cast<size_t>(task.panel) * sizes.panel_bytes;
  };
  const auto add = [&](Checksum& to, size_t index) {
    const Panels::Task task = panels.task(index);
    to.add(bytes_of(task), static_cast<size_t>(task.panels) * sizes.panel_bytes);
  };
  panels.for_tasks([&](size_t index) {
    const Panels::Task task = panels.task(index);
    if (!packed->is_depthwise()) {
      panels.pack(src, task, bytes_of(task), sums + task.panel * kPanel);
    } else {
      for (int64_t p = 0; p < task.panels; ++p) {
        const Panels::Task one = Panels::one(task, p);
        int32_t* const zero = zeros + one.panel * kPanel;
        for (int64_t c = 0; c < kPanel; ++c) {
          zero[c] = n_zero_point == 0 || c >= one.columns ? 0
                    : n_zero_point == 1                   ? zero_point[0]
                                                          : zero_point[one.column + c];
        }
        panels.pack_depthwise(src, one, zero, reinterpret_cast<int16_t*>(bytes_of(one)),
                              sums + one.panel * kPanel);
      }
    }
    sum.finished(index, add);
  });
  if (!packed->is_depthwise()) {
    std::memset(bytes + sizes.total - kPackedSlack, 0, kPackedSlack);
  }
  sum.sum().add(bytes + sizes.sums_offset, sizes.total - sizes.sums_offset);
  return sum.sum().value();
}

void unpack_body(const qk_packed& packed, const Weights<uint8_t>& dst) {
  const Panels panels(packed.header, packed.sizes, dst.strides);
  panels.for_tasks([&](size_t index) {
    const Panels::Task task = panels.task(index);
    const uint8_t* const from =
        packed.panels() + static_cast<size_t>(task.panel) * packed.sizes.panel_bytes;
    if (!packed.is_depthwise()) return panels.unpack(from, task, dst);
    for (int64_t p = 0; p < task.panels; ++p) {
      const Panels::Task one = Panels::one(task, p);
      panels.unpack_depthwise(reinterpret_cast<const int16_t*>(from + static_cast<size_t>(p) *
                                                                          packed.sizes.panel_bytes),
                              packed.zero_points() + one.panel * kPanel, one, dst);
    }
  });
}

}  // namespace qk

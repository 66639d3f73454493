// SPDX-License-Identifier: Apache-2.0
#include "ops/driver.h"

#include <algorithm>

#include "core/cpu.h"
#include "core/status.h"
#include "core/thread_pool.h"

namespace qk {
namespace {

constexpr uint32_t kMaxTile = 32 * 48;  // int32 sums of the largest tile of any tier

constexpr double kTaskMicroseconds = 5;  // a shorter task is cut no further
constexpr int kTasksPerThread = 4;

void prefetch_rows(const uint8_t* data, ptrdiff_t stride, uint32_t rows, size_t bytes) {
#if defined(__GNUC__)
  for (uint32_t m = 0; m < rows; ++m, data += stride) {
    for (size_t at = 0; at < bytes; at += kAlignment) __builtin_prefetch(data + at, 1);
  }
#endif
}

}  // namespace

qk_status plan_gemm(const qk_packed& packed, bool x_signed, int64_t m, GemmPlan* plan) {
  plan->tier = &active_tier();
  plan->entry = select_gemm(*plan->tier, packed.layout(), x_signed, m);
  plan->x_signed = x_signed;
  if (plan->entry != nullptr) return QK_OK;
  return fail(QK_OTHER_LAYOUT, "tier '%s' has no kernel for these packed weights", qk_isa());
}

void finish_tile(const Tier& tier, const Output& output, EpilogueArgs* args) {
  tier.epilogue[static_cast<int>(output.kind())](args);
  if (output.curve() == Curve::kNone) return;
  for (uint32_t m = 0; m < args->m; ++m) {
    auto* row = reinterpret_cast<float*>(static_cast<uint8_t*>(args->out) +
                                         static_cast<ptrdiff_t>(m) * args->out_stride);
    const ActivateArgs activate{row, args->n, output.curve()};
    tier.activate(&activate);
  }
}

namespace {

// The epilogue of a finished tile, a few rows at a time.
class Finisher {
 public:
  Finisher(const Tier& tier, const Output& output) : tier_(tier), output_(output) {}

  // Takes over a tile that is to be done in about `slices` calls of run_slice.
  void begin(const EpilogueArgs& tile, uint32_t slices) {
    tile_ = tile;
    left_ = tile.m;
    slice_ = ceil_div(tile.m, slices);
  }

  static void run_slice(void* finisher) {
    auto* const self = static_cast<Finisher*>(finisher);
    if (self->left_ > 0) self->finish(std::min(self->slice_, self->left_));
  }

  void flush() {
    if (left_ > 0) finish(left_);
  }

 private:
  void finish(uint32_t rows) {
    tile_.m = rows;
    finish_tile(tier_, output_, &tile_);
    left_ -= rows;
    tile_.acc += static_cast<ptrdiff_t>(rows) * tile_.acc_stride /
                 static_cast<ptrdiff_t>(sizeof(*tile_.acc));
    tile_.out = static_cast<uint8_t*>(tile_.out) + static_cast<ptrdiff_t>(rows) * tile_.out_stride;
    if (tile_.row_scale != nullptr) tile_.row_scale += rows;
  }

  const Tier& tier_;
  const Output& output_;
  EpilogueArgs tile_{};
  uint32_t left_ = 0;
  uint32_t slice_ = 0;
};

// The panels of a group: as they were packed, or arranged for the kernel a tile at a time.
class Weights {
 public:
  Weights(const GemmKernel& kernel, const qk_packed& packed, int64_t group, int64_t most)
      : kernel_(kernel),
        packed_(packed.panels() + static_cast<size_t>(group) * packed.sizes.group_bytes),
        packed_bytes_(static_cast<int64_t>(packed.sizes.panel_bytes)),
        depth_(packed.sizes.k_pad) {
    if (kernel.arrange == nullptr) return;
    arranged_bytes_ = round_up<int64_t>(depth_, kernel.kr) * kPanel;
    arranged_ = scratch(Scratch::kPanel, static_cast<size_t>(most * arranged_bytes_));
  }

  ptrdiff_t panel_bytes() const { return arranged_ == nullptr ? packed_bytes_ : arranged_bytes_; }

  const void* panels(int64_t first, int64_t count) const {
    const uint8_t* const from = packed_ + first * packed_bytes_;
    if (arranged_ == nullptr) return from;
    for (int64_t i = 0; i < count; ++i) {
      const ArrangeArgs arrange{from + i * packed_bytes_, arranged_ + i * arranged_bytes_,
                                static_cast<uint32_t>(depth_)};
      kernel_.arrange(&arrange);
    }
    return arranged_;
  }

 private:
  const GemmKernel& kernel_;
  const uint8_t* packed_;
  int64_t packed_bytes_;
  int64_t depth_;
  int64_t arranged_bytes_ = 0;
  uint8_t* arranged_ = nullptr;
};

}  // namespace

void run_tiles(const GemmPlan& plan, const Output& output, const qk_packed& packed, int64_t group,
               int64_t first_panel, int64_t last_panel, const LhsBlock& lhs,
               const Destination& out) {
  // Two tiles: where the kernel overlaps, one is finished while the next one's dots run.
  alignas(kAlignment) int32_t sums[2][kMaxTile];
  const GemmKernel& kernel = plan.kernel();
  const Tier& tier = plan.tier->table;
  const int64_t columns = lhs.rows == 1 ? std::max(kernel.nr, kernel.nr_row) : kernel.nr;
  const int64_t step = columns / kPanel;
  const size_t out_element = dtype_size(output.spec().out_dtype);
  const Weights weights(kernel, packed, group, step);
  int32_t negated_sums[64];  // of the rows of a tile, mr <= 64
  const uint32_t k_steps = std::max<uint32_t>(1, lhs.n_taps * (lhs.k / kernel.kr));
  Finisher finisher(tier, output);
  unsigned turn = 0;

  TileArgs tile{};
  tile.taps = lhs.taps;
  tile.n_taps = lhs.n_taps;
  tile.k = lhs.k;
  tile.w_stride = weights.panel_bytes();
  tile.w_tap_stride = lhs.w_tap_stride;
  if (kernel.overlaps) {
    tile.between = Finisher::run_slice;
    tile.between_context = &finisher;
  }

  // Tiles of equal height: a last one of a row or two would read all weights for little work.
  const int64_t height = round_up(ceil_div(lhs.rows, ceil_div<int64_t>(lhs.rows, kernel.mr)),
                                  static_cast<int64_t>(kernel.row_unit));
  const bool far_output =
      static_cast<size_t>(lhs.rows * packed.sizes.n_group) * out_element > cache_sizes().l2 / 2;

  for (int64_t panel = first_panel; panel < last_panel; panel += step) {
    const int64_t used = std::min(step, last_panel - panel);
    const int64_t column = (group * packed.sizes.panels + panel) * kPanel;
    tile.w = weights.panels(panel, used);
    tile.n = static_cast<uint32_t>(used * kPanel);
    tile.acc_stride = static_cast<ptrdiff_t>(tile.n * sizeof(int32_t));
    EpilogueArgs finish = output.arguments(column, plan.flips());
    finish.acc_stride = tile.acc_stride;
    finish.out_stride = out.row_stride;
    finish.n =
        static_cast<uint32_t>(std::min<int64_t>(tile.n, packed.sizes.n_group - panel * kPanel));
    uint8_t* const out_column =
        out.data + static_cast<size_t>(group * packed.sizes.n_group + panel * kPanel) * out_element;

    for (int64_t row = 0; row < lhs.rows; row += height) {
      int32_t* const acc = sums[turn];
      tile.acc = acc;
      tile.m = static_cast<uint32_t>(std::min<int64_t>(height, lhs.rows - row));
      tile.a = static_cast<const uint8_t*>(lhs.data) + row * lhs.stride;
      tile.a_stride = lhs.stride;
      if (far_output) {  // its cache lines are on their way while the dots run
        prefetch_rows(out_column + row * out.row_stride, out.row_stride, tile.m,
                      finish.n * out_element);
      }
      kernel.run(&tile);
      finisher.flush();
      OuterArgs outer{acc, tile.acc_stride, tile.m, tile.n, nullptr, nullptr};
      if (output.asymmetric_weights()) {
        for (uint32_t m = 0; m < tile.m; ++m) {
          negated_sums[m] = static_cast<int32_t>(0u - static_cast<uint32_t>(lhs.row_sums[row + m]));
        }
        outer.row = negated_sums;
        outer.col = output.outer_weight(column);
        tier.outer(&outer);
      }
      if (lhs.zero_points != nullptr) {
        outer.row = lhs.zero_points + row;
        outer.col = output.outer_row(column);
        tier.outer(&outer);
      }
      finish.acc = acc;
      finish.m = tile.m;
      finish.out = out_column + row * out.row_stride;
      finish.row_scale = lhs.row_scale == nullptr ? nullptr : lhs.row_scale + row;
      if (kernel.overlaps) {
        finisher.begin(finish, k_steps);
        turn = 1 - turn;
      } else {
        finish_tile(tier, output, &finish);
      }
    }
  }
  finisher.flush();
}

double microseconds_of(const GemmPlan& plan, const qk_packed& packed, double macs) {
  constexpr double kWeightBytes = 60e3;  // a microsecond: of a core, from L2 or L3
  const auto bytes = static_cast<double>(packed.sizes.group_bytes * packed.header.groups);
  return std::max(macs / (1e3 * plan.kernel().gmacs), bytes / kWeightBytes);
}

Split split_rows(const GemmPlan& plan, int64_t rows, int64_t panels, size_t row_bytes,
                 double microseconds) {
  const int64_t mr = plan.kernel().mr;
  const int64_t unit = plan.kernel().row_unit;
  const int64_t steps = ceil_div<int64_t>(panels, plan.kernel().nr / kPanel);
  const int64_t tiles = std::max<int64_t>(1, ceil_div(rows, mr));
  // A block of rows stays in half of L2 while all panels stream past it.
  const auto fitting = static_cast<int64_t>(cache_sizes().l2 / 2 / std::max<size_t>(row_bytes, 1));
  Split split{};
  split.blocks = ceil_div(tiles, std::max<int64_t>(1, fitting / mr));
  split.panel_ranges = 1;
  const int threads = threads_for(microseconds);
  if (threads > 1) {
    // A few tasks a thread, so that a late one costs little. Columns are cut first: each weight is
    // then read by one thread.
    const auto worth = static_cast<int64_t>(std::min(microseconds / kTaskMicroseconds, 1e9));
    const int64_t tasks = std::clamp<int64_t>(worth, threads, int64_t{kTasksPerThread} * threads);
    split.panel_ranges = std::min(steps, ceil_div(tasks, split.blocks));
    split.blocks = std::min(tiles, std::max(split.blocks, ceil_div(tasks, split.panel_ranges)));
  }
  split.block_rows = round_up(ceil_div(std::max<int64_t>(rows, 1), split.blocks), unit);
  split.blocks = ceil_div(std::max<int64_t>(rows, 1), split.block_rows);
  return split;
}

}  // namespace qk

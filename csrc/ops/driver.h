// SPDX-License-Identifier: Apache-2.0
//
// The loop over tiles that every op with dots shares: rows in the form the kernel reads, packed
// panels, one int32 tile at a time in L1, epilogue to the output.
#ifndef QKERNELS_OPS_DRIVER_H
#define QKERNELS_OPS_DRIVER_H

#include <cstddef>
#include <cstdint>

#include "core/tiers.h"
#include "kernels/contract.h"
#include "ops/output.h"
#include "pack/layout.h"

namespace qk {

// The kernel for a call, and how activations must be brought into its form.
struct GemmPlan {
  const ResolvedTier* tier;
  const GemmEntry* entry;
  bool x_signed;

  const GemmKernel& kernel() const { return *entry->kernel; }
  bool flips() const { return kernel().lhs != Lhs::kS16 && (kernel().lhs == Lhs::kS8) != x_signed; }
  bool reads_bytes() const { return kernel().lhs != Lhs::kS16; }
  size_t element() const { return reads_bytes() ? 1 : 2; }
};

// Chooses for m rows; QK_OTHER_LAYOUT when the active tier cannot use these weights.
qk_status plan_gemm(const qk_packed& packed, bool x_signed, int64_t m, GemmPlan* plan);

// The tier's hooks around a thread's task.
class TierSession {
 public:
  explicit TierSession(const GemmEntry& entry) : leave_(entry.leave) {
    if (entry.enter != nullptr) entry.enter();
  }
  ~TierSession() {
    if (leave_ != nullptr) leave_();
  }
  TierSession(const TierSession&) = delete;
  TierSession& operator=(const TierSession&) = delete;

 private:
  void (*leave_)();
};

// Rows of activations in the kernel's form.
struct LhsBlock {
  const void* data;
  ptrdiff_t stride;       // bytes from a row to the next
  const ptrdiff_t* taps;  // as in TileArgs
  uint32_t n_taps;
  uint32_t k;  // elements a tap, a multiple of the kernel's kr
  ptrdiff_t w_tap_stride;
  int64_t rows;
  const int32_t* row_sums;     // needed where weights have zero points
  const int32_t* zero_points;  // null, or one a row: replaces x_zero_point
  const float* row_scale;      // one a row for float output, null otherwise
};

// Where the block's rows go: out + m * row_stride, columns contiguous.
struct Destination {
  uint8_t* data;
  ptrdiff_t row_stride;
};

// Multiplies a block with panels [first, last) of a group and writes those columns.
void run_tiles(const GemmPlan& plan, const Output& output, const qk_packed& packed, int64_t group,
               int64_t first_panel, int64_t last_panel, const LhsBlock& lhs,
               const Destination& out);

// The epilogue and, on float output, the activation curve for a finished tile.
void finish_tile(const Tier& tier, const Output& output, EpilogueArgs* args);

// Packs `rows` rows of k bytes into the kernel's form at `dst` (row stride returned by
// lhs_row_bytes), zero up to the kernel's step.
inline ptrdiff_t lhs_row_bytes(const GemmPlan& plan, int64_t k) {
  // An odd number of cache lines a row: rows of a tile do not fall into one set of L1.
  const auto bytes = round_up(
      static_cast<size_t>(round_up<int64_t>(k, plan.kernel().kr)) * plan.element(), kAlignment);
  return static_cast<ptrdiff_t>(bytes | kAlignment);
}

// How a call is cut: blocks of rows, and ranges of panels within a block.
struct Split {
  int64_t block_rows;
  int64_t blocks;
  int64_t panel_ranges;
};

// About how long one thread takes for a call.
double microseconds_of(const GemmPlan& plan, const qk_packed& packed, double macs);

// `row_bytes`: what a row of the block takes in L2; `microseconds`: of the whole call.
Split split_rows(const GemmPlan& plan, int64_t rows, int64_t panels, size_t row_bytes,
                 double microseconds);

}  // namespace qk

#endif  // QKERNELS_OPS_DRIVER_H

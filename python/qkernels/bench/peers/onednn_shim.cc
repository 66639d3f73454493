// SPDX-License-Identifier: Apache-2.0
// oneDNN behind a C ABI that ctypes can call: one prepared primitive a handle, the loop over calls
// inside. Everything that an application does once is done in qb_create: weights are packed into
// the layout that the primitive asks for (format_tag::any), arguments are bound, scratch is
// allocated. Compiled on demand by onednn.py, which mirrors `Spec`.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"

using dnnl::algorithm;
using dnnl::memory;
using dnnl::primitive_attr;
using tag = memory::format_tag;
using type = memory::data_type;

namespace {

enum Kind : int32_t { kMatmul = 0, kConvolution = 1, kReorder = 2 };
enum Element : int32_t { kFloat32 = 0, kInt8 = 1, kUint8 = 2, kInt32 = 3, kBfloat16 = 4 };

}  // namespace

extern "C" {

// Plain arrays, C order: src (M, K) or (B, H, W, C); weights (N, K) or (O, KH, KW, I / groups);
// dst (M, N) or (B, OH, OW, O). A reorder has src and dst (M, K). Null: absent.
struct Spec {
  int32_t kind;
  int32_t src_type, compute_type,
      dst_type;     // compute_type: of the weights; for bfloat16 of src too
  int32_t dynamic;  // src float32; int8: quantized by the row in the call, bfloat16: converted
  int32_t relu;
  int32_t src_zero_point, dst_zero_point;
  int64_t m, k, n;
  int64_t batch, height, width, channels, out_height, out_width, out_channels;
  int64_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  int64_t pad_top, pad_bottom, pad_left, pad_right, groups;
  float src_scale, dst_scale;  // 0: none
  const float* weight_scales;  // (n,) or (out_channels,)
  const float* bias;           // the same, in units of dst before dst_scale
  const void *src, *weights;
  void* dst;
};

struct Handle;
}

namespace {

thread_local std::string last_error;

type element(int32_t code) {
  switch (code) {
    case kFloat32:
      return type::f32;
    case kInt8:
      return type::s8;
    case kUint8:
      return type::u8;
    case kInt32:
      return type::s32;
    case kBfloat16:
      return type::bf16;
  }
  throw std::invalid_argument("unknown element type");
}

const dnnl::engine& cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::desc plain(const memory::dims& dims, type t, tag layout) { return {dims, t, layout}; }

// Symmetric by the row: scale = amax / 127, q = rint(x * (127 / amax)).
void quantize_rows(const float* x, int64_t rows, int64_t depth, int8_t* q, float* scale) {
#pragma omp parallel for schedule(static) if (rows > 1)
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = x + row * depth;
    int8_t* to = q + row * depth;
    float amax = 0;
#pragma omp simd reduction(max : amax)
    for (int64_t i = 0; i < depth; ++i) amax = std::max(amax, std::fabs(from[i]));
    const float factor = amax > 0 ? 127.0f / amax : 0.0f;
    scale[row] = amax > 0 ? amax / 127.0f : 1.0f;
#pragma omp simd
    for (int64_t i = 0; i < depth; ++i)
      to[i] = static_cast<int8_t>(static_cast<int32_t>(std::rint(from[i] * factor)));
  }
}

}  // namespace

struct Handle {
  explicit Handle(const Spec& spec) : spec(spec), stream(cpu()) {
    switch (spec.kind) {
      case kMatmul:
        matmul();
        break;
      case kConvolution:
        convolution();
        break;
      case kReorder:
        reorder();
        break;
      default:
        throw std::invalid_argument("unknown kind");
    }
  }

  void run(int64_t calls) {
    for (int64_t i = 0; i < calls; ++i) {
      if (row_scales)
        quantize_rows(static_cast<const float*>(spec.src), spec.m, spec.k,
                      static_cast<int8_t*>(src.get_data_handle()),
                      static_cast<float*>(row_scales.get_data_handle()));
      if (convert_src) convert_src.execute(stream, convert_arguments);
      primitive.execute(stream, arguments);
    }
    stream.wait();
  }

  // The last result, in the layout of Spec.
  void fetch() {
    if (dst.get_data_handle() == spec.dst) return;
    memory to(plain_dst, cpu(), spec.dst);
    dnnl::reorder(dst, to).execute(stream, dst, to);
    stream.wait();
  }

  std::string implementation;

 private:
  void matmul() {
    const bool low = spec.compute_type == kInt8;
    const bool by_row = low && spec.dynamic;
    const type src_type = by_row                           ? type::s8
                          : spec.compute_type == kBfloat16 ? type::bf16
                                                           : element(spec.src_type);
    // A factor a row is a post-operation of the fast implementation in three dimensions only.
    const auto matrix = [&](int64_t rows, int64_t columns, type t, bool transposed = false) {
      return by_row ? plain({1, rows, columns}, t, transposed ? tag::acb : tag::abc)
                    : plain({rows, columns}, t, transposed ? tag::ba : tag::ab);
    };
    const auto plain_src = matrix(spec.m, spec.k, src_type);
    plain_dst = matrix(spec.m, spec.n, element(spec.dst_type));
    const memory::desc any_weights(matrix(spec.k, spec.n, type::s8).get_dims(),
                                   element(spec.compute_type), tag::any);
    primitive_attr attr;
    dnnl::post_ops after;
    const bool late_bias = by_row && spec.bias;  // it comes after the row's scale
    if (by_row) {
      after.append_binary(algorithm::binary_mul, matrix(spec.m, 1, type::f32));
      if (late_bias) after.append_binary(algorithm::binary_add, matrix(1, spec.n, type::f32));
    }
    finish(attr, after, low, by_row ? 1 << 2 : 1 << 1);
    const bool early_bias = spec.bias && !late_bias;
    const auto bias_desc = matrix(1, spec.n, type::f32);
    const auto pd =
        early_bias ? dnnl::matmul::primitive_desc(cpu(), plain_src, any_weights, bias_desc,
                                                  plain_dst, attr)
                   : dnnl::matmul::primitive_desc(cpu(), plain_src, any_weights, plain_dst, attr);
    primitive = dnnl::matmul(pd);
    implementation = pd.impl_info_str();
    // Weights come as (N, K): the (K, N) of the primitive, transposed.
    pack(matrix(spec.k, spec.n, low ? type::s8 : type::f32, true), pd.weights_desc());
    if (by_row) {
      src = memory(pd.src_desc(), cpu());
    } else if (src_type == element(spec.src_type)) {
      src = memory(pd.src_desc(), cpu(), const_cast<void*>(spec.src));
    } else {
      src = memory(pd.src_desc(), cpu());
      convert(matrix(spec.m, spec.k, element(spec.src_type)));
    }
    dst = memory(pd.dst_desc(), cpu(), spec.dst);
    bind(pd, early_bias ? bias_desc : memory::desc(), low, spec.n);
    if (by_row) {
      row_scales = memory(matrix(spec.m, 1, type::f32), cpu());
      arguments[DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1] = row_scales;
      if (late_bias)
        arguments[DNNL_ARG_ATTR_MULTIPLE_POST_OP(1) | DNNL_ARG_SRC_1] =
            vector(spec.bias, bias_desc);
    }
  }

  void convolution() {
    const bool low = spec.compute_type == kInt8, grouped = spec.groups > 1;
    const memory::dims in{spec.batch, spec.channels, spec.height, spec.width},
        out{spec.batch, spec.out_channels, spec.out_height, spec.out_width};
    const int64_t g = spec.groups, o = spec.out_channels / g, i = spec.channels / g;
    const memory::dims kernel = grouped ? memory::dims{g, o, i, spec.kernel_h, spec.kernel_w}
                                        : memory::dims{o, i, spec.kernel_h, spec.kernel_w};
    const auto plain_src = plain(in, element(spec.src_type), tag::nhwc);
    plain_dst = plain(out, element(spec.dst_type), tag::nhwc);
    const type compute = element(spec.compute_type);
    const memory::desc any_src(in, low ? element(spec.src_type) : compute, tag::any),
        any_dst(out, low || compute == type::f32 ? element(spec.dst_type) : compute, tag::any),
        any_weights(kernel, compute, tag::any);
    primitive_attr attr;
    dnnl::post_ops after;
    finish(attr, after, low, grouped ? 3 : 1);
    const auto bias_desc = plain({spec.out_channels}, type::f32, tag::a);
    const memory::dims strides{spec.stride_h, spec.stride_w},
        dilates{spec.dilation_h - 1, spec.dilation_w - 1}, low_pad{spec.pad_top, spec.pad_left},
        high_pad{spec.pad_bottom, spec.pad_right};
    const auto inference = dnnl::prop_kind::forward_inference;
    const auto direct = algorithm::convolution_direct;
    const auto pd = spec.bias ? dnnl::convolution_forward::primitive_desc(
                                    cpu(), inference, direct, any_src, any_weights, bias_desc,
                                    any_dst, strides, dilates, low_pad, high_pad, attr)
                              : dnnl::convolution_forward::primitive_desc(
                                    cpu(), inference, direct, any_src, any_weights, any_dst,
                                    strides, dilates, low_pad, high_pad, attr);
    primitive = dnnl::convolution_forward(pd);
    implementation = pd.impl_info_str();
    pack(plain(kernel, low ? type::s8 : type::f32, grouped ? tag::gohwi : tag::ohwi),
         pd.weights_desc());
    // The neighbouring layers would speak this layout too: the input is brought into it ahead.
    if (pd.src_desc() == plain_src) {
      src = memory(plain_src, cpu(), const_cast<void*>(spec.src));
    } else {
      src = memory(pd.src_desc(), cpu());
      convert(plain_src);
    }
    dst = pd.dst_desc() == plain_dst ? memory(plain_dst, cpu(), spec.dst)
                                     : memory(pd.dst_desc(), cpu());
    bind(pd, spec.bias ? bias_desc : memory::desc(), low, spec.out_channels);
  }

  // Quantize or dequantize (M, K).
  void reorder() {
    const auto from = plain({spec.m, spec.k}, element(spec.src_type), tag::ab);
    plain_dst = plain({spec.m, spec.k}, element(spec.dst_type), tag::ab);
    primitive_attr attr;
    quantization(attr, 0);
    const dnnl::reorder::primitive_desc pd(cpu(), from, cpu(), plain_dst, attr);
    primitive = dnnl::reorder(pd);
    implementation = pd.impl_info_str();
    src = memory(from, cpu(), const_cast<void*>(spec.src));
    dst = memory(plain_dst, cpu(), spec.dst);
    arguments = {{DNNL_ARG_FROM, src}, {DNNL_ARG_TO, dst}};
    bind_quantization(0);
  }

  // What every layer has: relu, scratch memory of ours, and for codes scales and zero points.
  void finish(primitive_attr& attr, dnnl::post_ops& after, bool low, int weight_mask) {
    if (spec.relu) after.append_eltwise(algorithm::eltwise_relu, 0.0f, 0.0f);
    if (after.len()) attr.set_post_ops(after);
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (low) quantization(attr, weight_mask);
  }

  void quantization(primitive_attr& attr, int weight_mask) {
    if (spec.weight_scales) attr.set_scales_mask(DNNL_ARG_WEIGHTS, weight_mask);
    if (spec.src_scale != 0) attr.set_scales_mask(DNNL_ARG_SRC, 0);
    if (spec.dst_scale != 0) attr.set_scales_mask(DNNL_ARG_DST, 0);
    if (spec.src_zero_point) attr.set_zero_points_mask(DNNL_ARG_SRC, 0);
    if (spec.dst_zero_point) attr.set_zero_points_mask(DNNL_ARG_DST, 0);
  }

  void bind_quantization(int64_t columns) {
    const auto scales = [](int argument) { return DNNL_ARG_ATTR_SCALES | argument; };
    const auto zeros = [](int argument) { return DNNL_ARG_ATTR_ZERO_POINTS | argument; };
    if (spec.weight_scales)
      arguments[scales(DNNL_ARG_WEIGHTS)] =
          vector(spec.weight_scales, plain({columns}, type::f32, tag::a));
    if (spec.src_scale != 0) arguments[scales(DNNL_ARG_SRC)] = number(spec.src_scale);
    if (spec.dst_scale != 0) arguments[scales(DNNL_ARG_DST)] = number(spec.dst_scale);
    if (spec.src_zero_point) arguments[zeros(DNNL_ARG_SRC)] = number(spec.src_zero_point);
    if (spec.dst_zero_point) arguments[zeros(DNNL_ARG_DST)] = number(spec.dst_zero_point);
  }

  void pack(const memory::desc& given, const memory::desc& wanted) {
    memory from(given, cpu(), const_cast<void*>(spec.weights));
    weights = memory(wanted, cpu());
    dnnl::reorder(from, weights).execute(stream, from, weights);
    stream.wait();
  }

  // From the caller's element type to the primitive's: ahead, or in every call.
  void convert(const memory::desc& given) {
    memory from(given, cpu(), const_cast<void*>(spec.src));
    dnnl::reorder once(from, src);
    once.execute(stream, from, src);
    stream.wait();
    if (!spec.dynamic) return;
    convert_src = once;
    convert_arguments = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, src}};
  }

  template <typename PrimitiveDesc>
  void bind(const PrimitiveDesc& pd, const memory::desc& bias, bool low, int64_t columns) {
    arguments = {{DNNL_ARG_SRC, src}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, dst}};
    arguments[DNNL_ARG_SCRATCHPAD] = memory(pd.scratchpad_desc(), cpu());
    if (!bias.is_zero()) arguments[DNNL_ARG_BIAS] = vector(spec.bias, bias);
    if (low) bind_quantization(columns);
  }

  static memory vector(const float* values, const memory::desc& desc) {
    memory to(desc, cpu());
    std::memcpy(to.get_data_handle(), values, desc.get_size());
    return to;
  }

  static memory number(float value) { return vector(&value, plain({1}, type::f32, tag::a)); }

  static memory number(int32_t value) {
    memory to(plain({1}, type::s32, tag::a), cpu());
    *static_cast<int32_t*>(to.get_data_handle()) = value;
    return to;
  }

  Spec spec;
  dnnl::stream stream;
  dnnl::primitive primitive;
  dnnl::reorder convert_src;
  memory src, weights, dst, row_scales;
  memory::desc plain_dst;
  std::unordered_map<int, memory> arguments, convert_arguments;
};

namespace {

template <typename Body>
bool guarded(Body body) {
  try {
    body();
    return true;
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "an exception of unknown type";
  }
  return false;
}

}  // namespace

extern "C" {

void qb_set_threads(int32_t threads) { omp_set_num_threads(threads); }

const char* qb_error() { return last_error.c_str(); }

void qb_version(int32_t* out) {
  const dnnl_version_t* version = dnnl_version();
  out[0] = version->major;
  out[1] = version->minor;
  out[2] = version->patch;
}

// Are there instructions for bfloat16, within the cap that is set.
int32_t qb_has_bfloat16() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::isa_default:
    case dnnl::cpu_isa::sse41:
    case dnnl::cpu_isa::avx:
    case dnnl::cpu_isa::avx2:
    case dnnl::cpu_isa::avx2_vnni:
    case dnnl::cpu_isa::avx512_core:
    case dnnl::cpu_isa::avx512_core_vnni:
      return 0;
    default:
      return 1;
  }
}

Handle* qb_create(const Spec* spec) {
  Handle* handle = nullptr;
  guarded([&] { handle = new Handle(*spec); });
  return handle;
}

int32_t qb_run(Handle* handle, int64_t calls) {
  return guarded([&] { handle->run(calls); }) ? 0 : 1;
}

int32_t qb_fetch(Handle* handle) {
  return guarded([&] { handle->fetch(); }) ? 0 : 1;
}

const char* qb_implementation(const Handle* handle) { return handle->implementation.c_str(); }

void qb_destroy(Handle* handle) { delete handle; }
}

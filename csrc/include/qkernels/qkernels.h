/* SPDX-License-Identifier: Apache-2.0
 *
 * qkernels: exact int8 GEMM, convolution and requantization. The C API.
 *
 * Plain C99. Every function that can fail returns a qk_status and leaves a sentence in
 * qk_last_message() (per thread). Nothing prints, aborts or throws. All functions are safe to call
 * from many threads; a prepared op may be run by many threads at once. Strides are in bytes and may
 * be negative. Numerics: docs/numerics.md.
 */
#ifndef QKERNELS_QKERNELS_H
#define QKERNELS_QKERNELS_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(QKERNELS_SHARED)
#define QK_API __declspec(dllexport)
#elif defined(__GNUC__) && defined(QKERNELS_SHARED)
#define QK_API __attribute__((visibility("default")))
#else
#define QK_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qk_status {
  QK_OK = 0,
  QK_INVALID_ARGUMENT = 1, /* a size, stride, scale or combination that cannot be */
  QK_UNSUPPORTED = 2,      /* this CPU or this build lacks it */
  QK_OUT_OF_MEMORY = 3,
  QK_DAMAGED = 4,      /* packed bytes that fail their checks */
  QK_OVERFLOW = 5,     /* the sums could leave int32: K times the largest products */
  QK_NAN = 6,          /* a NaN where a number is needed */
  QK_NOT_FINITE = 7,   /* an infinity or NaN where a finite number is needed */
  QK_OTHER_LAYOUT = 8, /* packed for another family of CPUs: unpack and pack again */
} qk_status;

QK_API const char* qk_last_message(void);
QK_API const char* qk_version(void);

typedef enum qk_dtype {
  QK_INT8 = 0,
  QK_UINT8 = 1,
  QK_INT32 = 2,
  QK_FLOAT32 = 3,
  QK_FLOAT16 = 4,
  QK_BFLOAT16 = 5,
} qk_dtype;

typedef enum qk_rounding {
  QK_NEAREST_EVEN = 0,       /* float32 multiplier, ties to even: ONNX Runtime */
  QK_FIXED_POINT = 1,        /* TFLite reference convolution: double rounding */
  QK_FIXED_POINT_SINGLE = 2, /* TOSA RESCALE without double rounding */
} qk_rounding;

typedef enum qk_activation {
  QK_IDENTITY = 0,
  QK_CLIP = 1, /* [activation_lo, activation_hi] in real units: relu, relu6, any pair */
  QK_GELU = 2, /* QK_GELU and later: float32 output only */
  QK_SILU = 3,
  QK_TANH = 4,
  QK_SIGMOID = 5,
  QK_HARDSWISH = 6,
} qk_activation;

/* ---- Machine ------------------------------------------------------------------------------- */

/* Tiers built into this library, worst first. */
QK_API size_t qk_isa_count(void);
QK_API const char* qk_isa_name(size_t index);    /* NULL past the end */
QK_API const char* qk_isa_parent(size_t index);  /* "none" for scalar */
QK_API int qk_isa_available(size_t index);       /* does this CPU run it */
QK_API const char* qk_isa_missing(size_t index); /* CPU features it lacks here, "" if none */
QK_API const char* qk_isa(void);                 /* the active tier */
QK_API qk_status qk_use_isa(const char* name);   /* process-wide */
QK_API const char* qk_cpu_features(void);        /* features found, separated by spaces */

/* Threads. The pool starts with the first call that uses it. */
QK_API qk_status qk_set_num_threads(int n);   /* process-wide, n >= 1 */
QK_API int qk_get_num_threads(void);          /* of the calling thread */
QK_API int qk_get_process_threads(void);      /* process-wide value */
QK_API qk_status qk_set_local_threads(int n); /* this thread only; 0 removes it */
QK_API int qk_get_local_threads(void);        /* 0 when not set */
QK_API int qk_cpu_count(void);                /* affinity and cgroup quota considered */

/* Nonzero: small work is split over threads even if they must be woken for it. For measurements and
 * tests; by default only where calls follow each other within about a millisecond. */
QK_API void qk_set_eager_threads(int eager);

/* The caller's own threads instead of the pool: must call task(arg, i) once for each i in
 * [0, count), in any order, on any threads, and return when all are done. NULL restores the pool. */
typedef void (*qk_task)(void* arg, size_t index);
typedef void (*qk_parallel_for)(void* context, size_t count, qk_task task, void* arg);
QK_API void qk_set_parallel_for(qk_parallel_for run, void* context, int threads);

/* The registry: every kernel built in, for tests, benchmarks and reports. */
typedef struct qk_kernel_info {
  const char* name;
  const char* tier;
  const char* op;     /* "gemm" or "depthwise" */
  const char* layout; /* "k4n16", ... */
  const char* lhs;    /* "s8", "u8", "s16", "x8" */
  int mr, nr, kr;
  int available;
} qk_kernel_info;
QK_API size_t qk_kernel_count(void);
QK_API qk_status qk_kernel(size_t index, qk_kernel_info* info);

/* ---- Packed weights ------------------------------------------------------------------------ */

/* Immutable. One 64-byte header and what follows it, position independent: the bytes may be
 * written to a file, mapped and used in place. */
typedef struct qk_packed qk_packed;

typedef enum qk_packed_kind { QK_MATRIX = 1, QK_CONV = 2, QK_DEPTHWISE = 3 } qk_packed_kind;

typedef struct qk_packed_info {
  qk_packed_kind kind;
  qk_dtype dtype; /* of the weights as given: QK_INT8 or QK_UINT8 */
  const char* layout;
  int64_t n, k;      /* matrix: columns of the product and depth; conv: out channels and taps * c */
  int64_t kh, kw, c; /* conv: kernel size, input channels a group; matrix: 1, 1, k */
  int64_t groups;
  size_t size; /* bytes, header included */
} qk_packed_info;

/* A matrix of weights w[n][k]; element (i, j) at w + i * n_stride + j * k_stride. */
QK_API qk_status qk_pack_matrix(const void* w, qk_dtype dtype, int64_t n, int64_t k,
                                ptrdiff_t n_stride, ptrdiff_t k_stride, qk_packed** out);

/* Convolution weights w[o][kh][kw][i], i = input channels a group; strides in that order.
 * groups == o == input channels (i == 1) or a multiple of it packs for the depthwise kernels.
 * zero_point (n_zero_point values, 0, 1 or o): removed from depthwise weights when they are packed,
 * where it must be given (a prepared op may repeat it, not change it); for other kinds it is
 * ignored here: pass it to the prepared op. */
QK_API qk_status qk_pack_conv(const void* w, qk_dtype dtype, const int64_t shape[4],
                              const ptrdiff_t strides[4], int64_t groups, const int32_t* zero_point,
                              size_t n_zero_point, qk_packed** out);

/* Uses `size` bytes at `bytes` (any alignment; kept alive by the caller) without copying when they
 * are 64-byte aligned and copying otherwise. QK_DAMAGED when magic, version, sizes or checksums are
 * wrong; QK_OTHER_LAYOUT is not an error here: unpack works everywhere. */
QK_API qk_status qk_packed_from_bytes(const void* bytes, size_t size, qk_packed** out);
QK_API void qk_packed_free(qk_packed* packed);
QK_API qk_status qk_packed_describe(const qk_packed* packed, qk_packed_info* info);
QK_API const void* qk_packed_bytes(const qk_packed* packed);
QK_API int qk_packed_native(const qk_packed* packed); /* has the active tier kernels for it */
/* The exact weights back, contiguous: [n][k], or [o][kh][kw][i]. */
QK_API qk_status qk_unpack(const qk_packed* packed, void* w);
/* The same to any layout: strides in bytes, of [o][kh][kw][i] (a matrix: of [n], unused, unused,
 * [k]). Elements must not overlap. */
QK_API qk_status qk_unpack_strided(const qk_packed* packed, void* w, const ptrdiff_t strides[4]);

/* ---- Prepared ops -------------------------------------------------------------------------- */

/* What happens to the sums. Copied by the prepare functions. */
typedef struct qk_output {
  qk_dtype x_dtype;   /* QK_INT8 or QK_UINT8: static; a float type: quantized a row (linear)
                              or an image (conv) at a time, symmetric, float32 out */
  qk_dtype out_dtype; /* QK_INT32, QK_FLOAT32, QK_INT8, QK_UINT8 */
  float x_scale;      /* 0: none, int32 output without float bias */
  int32_t x_zero_point;
  const float* w_scale; /* 1 or n values; NULL: none */
  size_t n_w_scale;
  const int32_t* w_zero_point; /* 1 or n values; NULL: 0 */
  size_t n_w_zero_point;
  const float* bias_f; /* n values or NULL; at most one of the two */
  const int32_t* bias_i;
  float out_scale; /* integer outputs */
  int32_t out_zero_point;
  qk_rounding rounding;
  qk_activation activation;
  float activation_lo, activation_hi; /* QK_CLIP; infinities leave a side open */
} qk_output;

typedef struct qk_linear qk_linear;

/* packed (a matrix) must outlive the op. */
QK_API qk_status qk_linear_prepare(const qk_packed* packed, const qk_output* output,
                                   qk_linear** op);
/* x: m rows of k contiguous elements of x_dtype; out: m rows of n contiguous elements.
 * row_zero_points: NULL or m values that replace x_zero_point (int32 output only). */
QK_API qk_status qk_linear_run(const qk_linear* op, int64_t m, const void* x, ptrdiff_t x_stride,
                               void* out, ptrdiff_t out_stride, const int32_t* row_zero_points);
QK_API void qk_linear_free(qk_linear* op);

typedef struct qk_conv_geometry {
  int64_t stride_h, stride_w;
  int64_t dilation_h, dilation_w;
  int64_t pad_top, pad_bottom, pad_left, pad_right;
} qk_conv_geometry;

typedef struct qk_conv2d qk_conv2d;

QK_API qk_status qk_conv2d_prepare(const qk_packed* packed, const qk_conv_geometry* geometry,
                                   const qk_output* output, qk_conv2d** op);
/* x: [batch][h][w][c], c contiguous; strides in bytes of batch, h, w. out: [batch][oh][ow][n],
 * n contiguous; likewise. oh = (h + pads - dilation * (kh - 1) - 1) / stride + 1. */
QK_API qk_status qk_conv2d_run(const qk_conv2d* op, int64_t batch, int64_t h, int64_t w,
                               const void* x, const ptrdiff_t x_strides[3], void* out,
                               const ptrdiff_t out_strides[3]);
QK_API void qk_conv2d_free(qk_conv2d* op);

/* ---- Quantization -------------------------------------------------------------------------- */

/* Arrays are [outer][channels][inner], contiguous; scale and zero_point have `channels` values.
 * A scalar: channels = 1. */
typedef struct qk_shape3 {
  int64_t outer, channels, inner;
} qk_shape3;

/* q = clamp(rint(x / scale) + zero_point, lo, hi) stored as a byte; x float32/float16/bfloat16.
 * QK_NAN when x holds a NaN. */
QK_API qk_status qk_quantize(const void* x, qk_dtype x_dtype, qk_shape3 shape, const float* scale,
                             const int32_t* zero_point, int32_t lo, int32_t hi, void* q);
/* float32(q - zero_point) * scale; q int8, uint8 or int32. */
QK_API qk_status qk_dequantize(const void* q, qk_dtype q_dtype, qk_shape3 shape, const float* scale,
                               const int32_t* zero_point, float* x);
/* Weights by the channel: scale = amax / 127, of a channel of zeros 1 (`channels` results), and
 * q = clamp(rint(w / scale), -127, 127). QK_NOT_FINITE when w holds an infinity or NaN; q and scale
 * are then unspecified. */
QK_API qk_status qk_quantize_weights(const float* w, qk_shape3 shape, int8_t* q, float* scale);
/* rows x cols, contiguous. symmetric: int8, zero_point untouched (may be NULL); otherwise uint8. */
QK_API qk_status qk_dynamic_quantize(const void* x, qk_dtype x_dtype, int64_t rows, int64_t cols,
                                     int symmetric, void* q, float* scale, int32_t* zero_point);
/* [min, max, amax] of n elements; QK_NOT_FINITE when one is not. */
QK_API qk_status qk_range(const void* x, qk_dtype x_dtype, int64_t n, float result[3]);

/* Sums to integers: out = int8/uint8 by `rounding`, multiplier and bias (int32 or NULL) a channel;
 * lo and hi are the bounds of the result (activation included). */
QK_API qk_status qk_requantize(const int32_t* acc, qk_shape3 shape, const float* multiplier,
                               int32_t zero_point, const int32_t* bias, qk_rounding rounding,
                               int32_t lo, int32_t hi, void* out);

/* ---- Probes -------------------------------------------------------------------------------- */

/* What this machine gives at most, all threads of the call together. */
typedef enum qk_probe {
  QK_PROBE_DOTS = 0,    /* int8 multiply-adds, by the active tier's dot instruction */
  QK_PROBE_FLOAT32 = 1, /* float32 multiply-adds, by the active tier's widest registers */
  QK_PROBE_READ = 2,    /* bytes, read again and again from `bytes` of memory a thread */
  QK_PROBE_CHAIN = 3,   /* dependent integer steps: in proportion to the clock */
} qk_probe;

/* Work a second in the best of four windows of seconds / 4 (0..60 in all). what: a qk_probe. bytes:
 * a positive multiple of 1024 for QK_PROBE_READ, otherwise 0. */
QK_API qk_status qk_probe_run(int what, size_t bytes, double seconds, double* per_second);

#ifdef __cplusplus
}
#endif

#endif /* QKERNELS_QKERNELS_H */

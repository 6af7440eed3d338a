/* The operations of a network. A written file has those parts that it calls, and what
   these call: a part starts at a line of dashes. Maps are [batch][row][column][channel];
   a map of signs has 32 channels in a word, the first in the lowest bit, 1 for +1. */

#include <math.h>
#include <stdint.h>
#include <string.h>

/* ---- How a kernel lies on a map. */
typedef struct {
  int batch, height, width, channels;  /* of the map that is read */
  int rows, columns, filters;          /* of the map that is made */
  int kernel_height, kernel_width, stride_y, stride_x, dilation_y, dilation_x;
  int top, left;                       /* what is padded before the first */
  int padding;                         /* of signs: 1, -1, or 0, which meets nothing */
  int groups;
} window;

/* ---- Which taps of a kernel meet a map along an axis: from *first on, before *end. */
static void inside(int start, int step, int taps, int size, int *first, int *end) {
  for (*first = 0; *first < taps && start + *first * step < 0;) ++*first;
  for (*end = taps; *end > *first && start + (*end - 1) * step >= size;) --*end;
}

/* ---- patch[a][b][c] = x[i stride + a dilation - top][j stride + b dilation - left][c],
   of `size` of the `step` numbers or words at a position; outside of the map `outside`.
   Returns whether some are. */
#define GATHER(name, type)                                                              \
  static int name(const type *x, const window *g, int step, int size, int i, int j,     \
                  type outside, type *patch) {                                          \
    int y0 = i * g->stride_y - g->top, x0 = j * g->stride_x - g->left;                  \
    int all = g->kernel_height * g->kernel_width, top, bottom, left, right, a, b, c;    \
    inside(y0, g->dilation_y, g->kernel_height, g->height, &top, &bottom);              \
    inside(x0, g->dilation_x, g->kernel_width, g->width, &left, &right);                \
    if ((bottom - top) * (right - left) < all)                                          \
      for (c = 0; c < all * size; c++) patch[c] = outside;                              \
    for (a = top; a < bottom; a++) {                                                    \
      const type *row = x + ((y0 + a * g->dilation_y) * g->width + x0) * step;          \
      type *to = patch + (a * g->kernel_width + left) * size;                           \
      if (step == size && g->dilation_x == 1)                                           \
        for (c = 0; c < (right - left) * size; c++) to[c] = row[left * size + c];       \
      else                                                                              \
        for (b = left; b < right; b++)                                                  \
          for (c = 0; c < size; c++, to++) *to = row[b * g->dilation_x * step + c];     \
    }                                                                                   \
    return (bottom - top) * (right - left) < all;                                       \
  }

/* ---- */
GATHER(gather_words, uint32_t)

/* ---- */
GATHER(gather_numbers, float)

/* ---- Instructions that count bits in several channels at once. EIGHTS adds counts of
   bytes, of which 31 fit, and WHOLE makes counts of words of them. */
#if defined(__AVX512F__) && defined(__AVX512VPOPCNTDQ__)
#include <immintrin.h>
#define LANES 16
typedef __m512i lanes;
#define LOAD(p) _mm512_loadu_si512(p)
#define STORE(p, a) _mm512_storeu_si512(p, a)
#define SAME(word) _mm512_set1_epi32((int)(word))
#define BITS(a, b) _mm512_popcnt_epi32(_mm512_xor_si512(a, b))
#define EIGHTS(a, b) _mm512_add_epi32(a, b)
#define WHOLE(a) (a)
#define ADD(a, b) _mm512_add_epi32(a, b)
#define ABOVE(p, q) _mm512_cmp_ps_mask(_mm512_add_ps(_mm512_loadu_ps(p), \
    _mm512_loadu_ps(q)), _mm512_setzero_ps(), _CMP_GE_OQ)
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
typedef __m256i lanes;
#define LOAD(p) _mm256_loadu_si256((const lanes *)(const void *)(p))
#define STORE(p, a) _mm256_storeu_si256((lanes *)(void *)(p), a)
#define SAME(word) _mm256_set1_epi32((int)(word))
#define EIGHTS(a, b) _mm256_add_epi8(a, b)
#define WHOLE(a)                                                                        \
  _mm256_madd_epi16(_mm256_maddubs_epi16(a, _mm256_set1_epi8(1)), _mm256_set1_epi16(1))
#define ADD(a, b) _mm256_add_epi32(a, b)
#define ABOVE(p, q) _mm256_movemask_ps(_mm256_cmp_ps(_mm256_add_ps( \
    _mm256_loadu_ps(p), _mm256_loadu_ps(q)), _mm256_setzero_ps(), _CMP_GE_OQ))
static lanes BITS(lanes a, lanes b) {
  const lanes low = _mm256_set1_epi8(15), x = _mm256_xor_si256(a, b);
  const lanes table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0,
                                       1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const lanes high = _mm256_and_si256(_mm256_srli_epi16(x, 4), low);
  return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(x, low)),
                         _mm256_shuffle_epi8(table, high));
}
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define LANES 4
typedef uint8x16_t lanes;
#define LOAD(p) vreinterpretq_u8_u32(vld1q_u32((const uint32_t *)(p)))
#define STORE(p, a) vst1q_u32((uint32_t *)(p), vreinterpretq_u32_u8(a))
#define SAME(word) vreinterpretq_u8_u32(vdupq_n_u32(word))
#define BITS(a, b) vcntq_u8(veorq_u8(a, b))
#define EIGHTS(a, b) vaddq_u8(a, b)
#define WHOLE(a) vreinterpretq_u8_u32(vpaddlq_u16(vpaddlq_u8(a)))
#define ADD(a, b) \
  vreinterpretq_u8_u32(vaddq_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)))
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#define LANES 4
typedef v128_t lanes;
#define LOAD(p) wasm_v128_load(p)
#define STORE(p, a) wasm_v128_store(p, a)
#define SAME(word) wasm_i32x4_splat((int)(word))
#define BITS(a, b) wasm_i8x16_popcnt(wasm_v128_xor(a, b))
#define EIGHTS(a, b) wasm_i8x16_add(a, b)
#define WHOLE(a) wasm_u32x4_extadd_pairwise_u16x8(wasm_u16x8_extadd_pairwise_u8x16(a))
#define ADD(a, b) wasm_i32x4_add(a, b)
#endif

/* ---- The bits of each byte, as four numbers in a word. */
static uint32_t bits_of_bytes(uint32_t v) {
  v -= (v >> 1) & 0x55555555u;
  v = (v & 0x33333333u) + ((v >> 2) & 0x33333333u);
  return (v + (v >> 4)) & 0x0f0f0f0fu;
}

/* ---- counts[c] += the bits in which patch[w] and kernel[w][c] differ, over all w.
   In plain C, seven words are added as bits before any is counted: a full adder makes
   of three bits of one value one of that value and one of twice as much. */
static void count_bits(const uint32_t *patch, int words, const uint32_t *kernel, int step,
                       int channels, int32_t *counts) {
  int c = 0, w, end;
#ifdef LANES
  for (; c + LANES <= channels; c += LANES) {
    lanes total = LOAD(counts + c);
    const uint32_t *k = kernel + c;
    for (w = 0; w < words;) {
      lanes some = SAME(0);
      end = words - w > 31 ? w + 31 : words;
      for (; w < end; w++, k += step) some = EIGHTS(some, BITS(SAME(patch[w]), LOAD(k)));
      total = ADD(total, WHOLE(some));
    }
    STORE(counts + c, total);
  }
#endif
#define DIFFER(i) (patch[w + i] ^ k[i * step])
#define ADDER(twice, once, a, b, c) \
  twice = ((a) & (b)) | (((a) ^ (b)) & (c)), once = (a) ^ (b) ^ (c)
  for (; c < channels; c++) {
    const uint32_t *k = kernel + c;
    uint32_t total = 0, one, two, four, a, b, d;
    for (w = 0, end = words - 6; w < end; w += 7, k += 7 * step) {
      ADDER(a, one, DIFFER(0), DIFFER(1), DIFFER(2));
      ADDER(b, one, one, DIFFER(3), DIFFER(4));
      ADDER(d, one, one, DIFFER(5), DIFFER(6));
      ADDER(four, two, a, b, d);
      one = bits_of_bytes(one) + 2 * bits_of_bytes(two) + 4 * bits_of_bytes(four);
      total += (one * 0x01010101u) >> 24;
    }
    for (; w < words; w++, k += step)
      total += (bits_of_bytes(DIFFER(0)) * 0x01010101u) >> 24;
    counts[c] += (int32_t)total;
  }
}

/* ---- The sums of the signs at (i, j) times up to 32 kernels, from `kernel` on: each is
   n - 2 counts for the n signs that meet. */
static void sums_of_signs(const uint32_t *patch, const window *g, int i, int j,
                          const uint32_t *kernel, int filters, int32_t *sums) {
  int size = (g->channels + 31) / 32, row = g->kernel_width * size, a, c, met;
  int top = 0, left = 0, bottom = g->kernel_height, right = g->kernel_width;
  if (g->padding == 0) {
    int y = i * g->stride_y - g->top, x = j * g->stride_x - g->left;
    inside(y, g->dilation_y, g->kernel_height, g->height, &top, &bottom);
    inside(x, g->dilation_x, g->kernel_width, g->width, &left, &right);
  }
  met = (bottom - top) * (right - left) * g->channels;
  for (c = 0; c < filters; c++) sums[c] = 0;
  if (right - left == g->kernel_width)
    count_bits(patch + top * row, (bottom - top) * row, kernel + top * row * g->filters,
               g->filters, filters, sums);
  else
    for (a = top; a < bottom; a++)
      count_bits(patch + a * row + left * size, (right - left) * size,
                 kernel + (a * row + left * size) * g->filters, g->filters, filters, sums);
  for (c = 0; c < filters; c++) sums[c] = met - 2 * sums[c];
}

/* ---- Every position of a binary convolution, in turns of up to 32 filters: `each` has
   their `sums`, of `filters` from `first` on, and the number `at` of the position. */
#define BINARY(each)                                                                    \
  int size = (g->channels + 31) / 32, n = g->kernel_height * g->kernel_width * size;    \
  int image, i, j, c, first, filters, at = 0;                                           \
  uint32_t outside = g->padding > 0 ? ~0u : 0u;                                         \
  int32_t sums[32];                                                                     \
  for (image = 0; image < g->batch; image++, x += g->height * g->width * size)          \
    for (i = 0; i < g->rows; i++)                                                       \
      for (j = 0; j < g->columns; j++, at++) {                                          \
        if (gather_words(x, g, size, size, i, j, outside, patch) && g->channels % 32)   \
          for (c = size - 1; c < n; c += size)                                          \
            patch[c] &= (1u << (g->channels % 32)) - 1;                                 \
        for (first = 0; first < g->filters; first += 32) {                              \
          filters = g->filters - first < 32 ? g->filters - first : 32;                  \
          sums_of_signs(patch, g, i, j, kernel + first, filters, sums);                 \
          each                                                                          \
        }                                                                               \
      }

/* ---- y = scale (kernel * x) + bias, of signs; the kernel is [row][column][word][filter] */
static void binary_convolution(const uint32_t *x, const window *g, const uint32_t *kernel,
                               const float *scale, const float *bias, uint32_t *patch,
                               float *y) {
  BINARY(float *to = y + at * g->filters + first;
         for (c = 0; c < filters; c++)
           to[c] = scale[first + c] * (float)sums[c] + bias[first + c];)
}

/* ---- The sign of a binary convolution: +1 where kernel * x >= threshold. */
static void binary_convolution_sign(const uint32_t *x, const window *g,
                                    const uint32_t *kernel, const int32_t *thresholds,
                                    uint32_t *patch, uint32_t *y) {
  BINARY(uint32_t word = 0;
         for (c = 0; c < filters; c++)
           word |= (uint32_t)(sums[c] >= thresholds[first + c]) << c;
         y[at * ((g->filters + 31) / 32) + first / 32] = word;)
}

/* ---- The signs of x + shift, +1 from 0 on, as bits. No shift is -0, so that no sum is. */
static void sign_bits(const float *x, int positions, int channels, const float *shift,
                      uint32_t *y) {
  for (; positions > 0; positions--, x += channels) {
    int first, c, n;
    for (first = 0; first < channels; first += 32) {
      const float *from = x + first, *by = shift + first;
      uint32_t word = 0, below = 0, bits;
      n = channels - first < 32 ? channels - first : 32;
      c = 0;
#ifdef ABOVE
      for (; c + LANES <= n; c += LANES) word |= (uint32_t)ABOVE(from + c, by + c) << c;
#endif
      for (n--; n >= c; n--) {
        const float sum = from[n] + by[n];
        memcpy(&bits, &sum, sizeof bits);
        below = below << 1 | bits >> 31;
        word |= 1u << n;
      }
      *y++ = word & ~(below << (c & 31));
    }
  }
}

/* ---- Several numbers that are multiplied at once: what a vector of the processor has. */
#if defined(__GNUC__) && defined(__AVX512F__)
#define WIDTH 16
#elif defined(__GNUC__) && defined(__AVX__)
#define WIDTH 8
#elif defined(__GNUC__) && (defined(__SSE__) || defined(__aarch64__) || \
                            defined(__wasm_simd128__))
#define WIDTH 4
#else
#define WIDTH 1
#endif
#if WIDTH > 1
typedef float reals __attribute__((vector_size(4 * WIDTH)));
#else
typedef float reals;
#endif

/* ---- y[r][c] = bias[c] + sum over e of x[r][e] kernel[e][c], for up to four rows. The
   last vector of a row starts where it ends with the row. */
static void products(const float *x, int rows, int length, const float *kernel, int step,
                     int columns, const float *bias, float *y, int y_step) {
  int c, r, e;
  for (c = 0; columns >= WIDTH && c < columns; c += WIDTH) {
    reals a0, a1, a2, a3, k;
    const float *from;
    if (c > columns - WIDTH) c = columns - WIDTH;
    memset(&a0, 0, sizeof a0);
    if (bias) memcpy(&a0, bias + c, sizeof a0);
    from = kernel + c;
    if (rows == 4) {
      const float *x1 = x + length, *x2 = x1 + length, *x3 = x2 + length;
      a1 = a2 = a3 = a0;
      for (e = 0; e < length; e++, from += step) {
        memcpy(&k, from, sizeof k);
        a0 += k * x[e];
        a1 += k * x1[e];
        a2 += k * x2[e];
        a3 += k * x3[e];
      }
      memcpy(y + c, &a0, sizeof a0);
      memcpy(y + y_step + c, &a1, sizeof a1);
      memcpy(y + 2 * y_step + c, &a2, sizeof a2);
      memcpy(y + 3 * y_step + c, &a3, sizeof a3);
    } else {
      for (a3 = a0, r = 0; r < rows; r++, from = kernel + c) {
        for (a0 = a3, e = 0; e < length; e++, from += step) {
          memcpy(&k, from, sizeof k);
          a0 += k * x[r * length + e];
        }
        memcpy(y + r * y_step + c, &a0, sizeof a0);
      }
    }
  }
  for (; c < columns; c++)
    for (r = 0; r < rows; r++) {
      float sum = bias ? bias[c] : 0;
      for (e = 0; e < length; e++) sum += x[r * length + e] * kernel[e * step + c];
      y[r * y_step + c] = sum;
    }
}

/* ---- y = kernel * x + bias; the kernel is [row][column][channel][filter]. Without
   `patch` it is a product of matrices, of a 1x1 kernel and all positions. */
static void convolution(const float *x, const window *g, const float *kernel,
                        const float *bias, float *patch, float *y) {
  int size = g->channels / g->groups, filters = g->filters / g->groups;
  int length = g->kernel_height * g->kernel_width * size, image, group, at, rows, r;
  int positions = g->rows * g->columns * (patch ? 1 : g->batch);
  for (image = 0; image < (patch ? g->batch : 1); image++) {
    for (at = 0; at < positions; at += rows, y += rows * g->filters) {
      rows = positions - at < 4 ? positions - at : 4;
      for (group = 0; group < g->groups; group++) {
        for (r = 0; patch && r < rows; r++)
          gather_numbers(x + group * size, g, g->channels, size, (at + r) / g->columns,
                         (at + r) % g->columns, 0, patch + r * length);
        products(patch ? patch : x + at * length, rows, length, kernel + group * filters,
                 g->filters, filters, bias + group * filters, y + group * filters,
                 g->filters);
      }
    }
    x += g->height * g->width * g->channels;
  }
}

/* ---- The same for a kernel of one size per filter, scale (signs * x) + bias, of which
   each filter has its signs as bits [filter][word] in the order of the patch. */
static void convolution_of_signs(const float *x, const window *g, const uint32_t *kernel,
                                 const float *scale, const float *bias, float *patch,
                                 float *y) {
  int n = g->kernel_height * g->kernel_width * g->channels, image, i, j, f, e;
  for (image = 0; image < g->batch; image++, x += g->height * g->width * g->channels)
    for (i = 0; i < g->rows; i++)
      for (j = 0; j < g->columns; j++) {
        const uint32_t *word = kernel;
        gather_numbers(x, g, g->channels, g->channels, i, j, 0, patch);
        for (f = 0; f < g->filters; f++) {
          float sum = 0;
          uint32_t bits = 0;
          for (e = 0; e < n; e++, bits >>= 1) {
            if (e % 32 == 0) bits = *word++;
            sum += bits & 1 ? patch[e] : -patch[e];
          }
          *y++ = scale[f] * sum + bias[f];
        }
      }
}

/* ---- For every position, y = `start`, then `each` of every tap that meets the map, for
   all filters c, then `last`, when `met` taps have; `from` are the numbers that meet. */
#define TAPS(start, each, last)                                                         \
  int image, i, j, a, b, c, met;                                                        \
  for (image = 0; image < g->batch; image++, x += g->height * g->width * g->channels)   \
    for (i = 0; i < g->rows; i++)                                                       \
      for (j = 0; j < g->columns; j++, y += g->filters) {                               \
        int y0 = i * g->stride_y - g->top, x0 = j * g->stride_x - g->left;              \
        int top, bottom, left, right;                                                   \
        inside(y0, g->dilation_y, g->kernel_height, g->height, &top, &bottom);          \
        inside(x0, g->dilation_x, g->kernel_width, g->width, &left, &right);            \
        met = (bottom - top) * (right - left);                                          \
        for (c = 0; c < g->filters; c++) y[c] = (start);                                \
        for (a = top; a < bottom; a++)                                                  \
          for (b = left; b < right; b++) {                                              \
            const float *from = x + ((y0 + a * g->dilation_y) * g->width + x0           \
                                     + b * g->dilation_x) * g->channels;                \
            each                                                                        \
          }                                                                             \
        if (met != 1) for (c = 0; c < g->filters; c++) { last }                         \
      }

/* ---- Depthwise: y[c m + j] = kernel[..][c m + j] * x[c] + bias, for m filters each. */
static void depthwise_convolution(const float *x, const window *g, const float *kernel,
                                  const float *bias, float *y) {
  int m = g->filters / g->channels;
  TAPS(bias[c], const float *k = kernel + (a * g->kernel_width + b) * g->filters;
       if (m == 1) for (c = 0; c < g->filters; c++) y[c] += from[c] * k[c];
       else for (c = 0; c < g->filters; c++) y[c] += from[c / m] * k[c];, )
}

/* ---- The largest number of each window. */
static void max_pool(const float *x, const window *g, float *y) {
  TAPS(-INFINITY, for (c = 0; c < g->filters; c++) y[c] = from[c] > y[c] ? from[c] : y[c];, )
}

/* ---- The mean of each window, of what is inside of the map. */
static void average_pool(const float *x, const window *g, float *y) {
  TAPS(0, for (c = 0; c < g->filters; c++) y[c] += from[c];, y[c] /= (float)met;)
}

/* ---- Transposed: each number of x is added, times kernel[row][column][filter][channel],
   to all that a convolution from y to x reads there; y starts as the bias. */
static void transposed_convolution(const float *x, const window *g, const float *kernel,
                                   const float *bias, float *y) {
  int image, i, j, a, b, c, e, n = g->rows * g->columns * g->filters;
  for (image = 0; image < g->batch; image++, y += n) {
    for (i = 0; i < n; i++) y[i] = bias[i % g->filters];
    for (i = 0; i < g->height; i++)
      for (j = 0; j < g->width; j++, x += g->channels)
        for (a = 0; a < g->kernel_height; a++)
          for (b = 0; b < g->kernel_width; b++) {
            int row = i * g->stride_y + a * g->dilation_y - g->top;
            int column = j * g->stride_x + b * g->dilation_x - g->left;
            const float *k =
                kernel + (a * g->kernel_width + b) * g->filters * g->channels;
            if (row < 0 || column < 0 || row >= g->rows || column >= g->columns) continue;
            for (c = 0; c < g->filters; c++) {
              float sum = 0;
              for (e = 0; e < g->channels; e++) sum += x[e] * k[c * g->channels + e];
              y[(row * g->columns + column) * g->filters + c] += sum;
            }
          }
  }
}

/* ---- y = x z, of matrices one after the other. */
static void matrix_product(const float *x, const float *z, int batch, int rows, int inner,
                           int columns, float *y) {
  for (; batch > 0; batch--, z += inner * columns) {
    int r, some;
    for (r = 0; r < rows; r += some, x += some * inner, y += some * columns) {
      some = rows - r < 4 ? rows - r : 4;
      products(x, some, inner, z, columns, columns, 0, y, columns);
    }
  }
}

/* ---- y[c] = value for all c < n, of which `value` may read y. Some are made before any is
   written, so that a compiler need not know what lies where. */
#define SOME (WIDTH > 1 ? 16 : 1)
#define ALL(y, c, n, value)                                                             \
  do {                                                                                  \
    for (c = 0; c + SOME <= n; c += SOME) {                                             \
      float some[SOME];                                                                 \
      int start = c;                                                                    \
      for (; c < start + SOME; c++) some[c - start] = (value);                          \
      c = start;                                                                        \
      memcpy(y + c, some, sizeof some);                                                 \
    }                                                                                   \
    for (; c < n; c++) y[c] = (value);                                                  \
  } while (0)

/* ---- y = k x + b, per channel. */
static void affine(const float *x, int positions, int channels, const float *k,
                   const float *b, float *y) {
  int c;
  for (; positions > 0; positions--, x += channels, y += channels)
    ALL(y, c, channels, k[c] * x[c] + b[c]);
}

/* ---- y = max(x, 0) + slope min(x, 0), per channel. */
static void prelu(const float *x, int positions, int channels, const float *slope,
                  float *y) {
  int c;
  for (; positions > 0; positions--, x += channels, y += channels)
    ALL(y, c, channels, (x[c] > 0 ? x[c] : 0) + slope[c] * (x[c] < 0 ? x[c] : 0));
}

/* ---- y = clip(x, low, high). */
static void clip(const float *x, int n, float low, float high, float *y) {
  int c;
  ALL(y, c, n, x[c] < low ? low : x[c] > high ? high : x[c]);
}

/* ---- The nearest of the numbers from low to high that are a step apart. */
static void levels(const float *x, int n, float low, float high, float step, float zero,
                   float *y) {
  int c;
  clip(x, n, low, high, y);
  for (c = 0; c < n; c++) y[c] = floorf((y[c] - low) * (1 / step) - zero + 0.5f) * step;
}

/* ---- y = gamma (x - mean) / sqrt(variance + epsilon) + beta, of each channel over all its
   numbers; x is [outer][channel][inner]. */
static void normalize(const float *x, int outer, int channels, int inner,
                      const float *gamma, const float *beta, float epsilon, float *y) {
  int c, i, at, n = outer * inner;
  for (c = 0; c < channels; c++) {
    float mean = 0, variance = 0, k;
#define EACH_OF(c) \
  for (i = 0; i < n && (at = (i / inner * channels + c) * inner + i % inner, 1); i++)
    EACH_OF(c) mean += x[at];
    mean /= (float)n;
    EACH_OF(c) variance += (x[at] - mean) * (x[at] - mean);
    k = gamma[c] / sqrtf(variance / (float)n + epsilon);
    EACH_OF(c) y[at] = k * (x[at] - mean) + beta[c];
  }
}

/* ---- exp(x) over its sum, for every row. */
static void softmax(const float *x, int rows, int n, float *y) {
  for (; rows > 0; rows--, x += n, y += n) {
    float most = x[0], sum = 0;
    int i;
    for (i = 1; i < n; i++) most = x[i] > most ? x[i] : most;
    for (i = 0; i < n; i++) sum += y[i] = expf(x[i] - most);
    for (i = 0; i < n; i++) y[i] /= sum;
  }
}

/* ---- y = scale x + offset per channel, of the bytes of an image. */
static void pixels(const uint8_t *x, int positions, int channels, const float *scale,
                   const float *offset, float *y) {
  int i, c;
  for (i = 0; i < positions; i++)
    for (c = 0; c < channels; c++) *y++ = scale[c] * (float)*x++ + offset[c];
}

/* ---- Whole numbers as real ones, which say in `take` which rows of a table are wanted. */
static void whole_numbers(const int32_t *x, int n, float *y) {
  for (; n > 0; n--) *y++ = (float)*x++;
}

/* ---- y[i] = table[rows[i]], of `size` numbers each. */
static void take(const float *table, int count, const float *rows, int n, int size,
                 float *y) {
  for (; n > 0; n--, rows++, y += size) {
    int row = *rows < 0 ? 0 : *rows < (float)count ? (int)*rows : count - 1;
    memcpy(y, table + row * size, (size_t)size * sizeof *y);
  }
}

/* ---- A function of the numbers A of one map and B of another, over six axes. A map that
   has a step of 0 along an axis has the same number along all of it; along one of a step
   of 0 of the map that is made, of which Y is the number so far, numbers are reduced. */
typedef struct {
  int sizes[6], a[6], b[6], y[6];
} walk;

#define STEP(w, m) (i[0] * w->m[0] + i[1] * w->m[1] + i[2] * w->m[2] + i[3] * w->m[3] + \
                    i[4] * w->m[4])
#define EACH(d) for (i[d] = 0; i[d] < w->sizes[d]; i[d]++)
#define WALK(name, function)                                                            \
  static float name##_of(float A, float B, float Y) {                                   \
    (void)A, (void)B, (void)Y;                                                          \
    return function;                                                                    \
  }                                                                                     \
  static void name(const float *a, const float *b, const walk *w, float *y) {           \
    int i[5], j, n = w->sizes[5], da = w->a[5], db = w->b[5], dy = w->y[5];             \
    EACH(0) EACH(1) EACH(2) EACH(3) EACH(4) {                                           \
      const float *pa = a + STEP(w, a), *pb = b + STEP(w, b);                           \
      float *py = y + STEP(w, y);                                                       \
      if (da == 1 && db == 1 && dy == 1)                                                \
        ALL(py, j, n, name##_of(pa[j], pb[j], py[j]));                                  \
      else                                                                              \
        for (j = 0; j < n; j++)                                                         \
          py[j * dy] = name##_of(pa[j * da], pb[j * db], py[j * dy]);                   \
    }                                                                                   \
  }

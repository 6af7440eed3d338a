/* The operations of a network. A written file has only the parts that it calls, and what
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
  int top, left;                       /* the padding before the first row and column */
  int padding;                         /* of signs, by 1, -1, or 0, their mean */
  int groups;
} window;

/* ---- Loops over every position (i, j) of every image that a kernel makes. */
#define POSITIONS(g)                                                                    \
  for (image = 0; image < g->batch; image++)                                            \
    for (i = 0; i < g->rows; i++)                                                       \
      for (j = 0; j < g->columns; j++)

/* ---- Loops over every tap (a, b) of a kernel. */
#define TAPS(g)                                                                         \
  for (a = 0; a < g->kernel_height; a++)                                                \
    for (b = 0; b < g->kernel_width; b++)

/* ---- Returns the position in an image that tap (a, b) meets at (i, j), or -1. */
static int met(const window *g, int i, int j, int a, int b) {
  int y = i * g->stride_y + a * g->dilation_y - g->top;
  int x = j * g->stride_x + b * g->dilation_x - g->left;
  return y >= 0 && y < g->height && x >= 0 && x < g->width ? y * g->width + x : -1;
}

/* ---- For what is called at every position: left as a call, it takes a tenth longer. */
#if defined(__GNUC__) && !defined(__arm__) /* where memory is scarce */
#define INLINE inline __attribute__((always_inline))
#else
#define INLINE
#endif

/* ---- Copies what each tap meets: patch[a][b][c] = x[position][c], for `size` of the `step`
   numbers or words of a position, or `outside`. Returns whether some tap meets nothing. */
#define GATHER(name, type, copy)                                                        \
  static INLINE int name(const type *x, const window *g, int step, int size, int i,     \
                         int j, type outside, type *patch) {                            \
    int a, b, c, missed = 0;                                                            \
    TAPS(g) {                                                                           \
      int at = met(g, i, j, a, b);                                                      \
      if (at < 0)                                                                       \
        for (missed = 1, c = 0; c < size; c++) *patch++ = outside;                      \
      else {                                                                            \
        const type *from = x + at * step;                                               \
        copy                                                                            \
      }                                                                                 \
    }                                                                                   \
    return missed;                                                                      \
  }

/* ---- */
GATHER(gather_words, uint32_t, for (c = 0; c < size; c++) *patch++ = from[c];)

/* ---- */
GATHER(gather_numbers, float, /* four, two and one at once; an image has three channels */
       for (c = size; c >= 4; c -= 4, patch += 4, from += 4)
         memcpy(patch, from, 4 * sizeof *x);
       if (c & 2) { memcpy(patch, from, 2 * sizeof *x); patch += 2; from += 2; }
       if (c & 1) *patch++ = *from;)

/* ---- Words of several channels at once, and the counts of ones in each of their bytes, or
   with AVX-512 in each word. BELOW are the bits of sum < 0. */
#if defined(__GNUC__) && defined(__AVX512F__) && defined(__AVX512VPOPCNTDQ__)
#include <immintrin.h>
#define LANES 16
#define BITS(v) ((lanes)_mm512_popcnt_epi32((__m512i)(v)))
#define WORDS
#define BELOW(sum) _mm512_cmp_ps_mask(sum, _mm512_setzero_ps(), _CMP_LT_OQ)
#define SUM_OF(p, q) _mm512_add_ps(_mm512_loadu_ps(p), _mm512_loadu_ps(q))
#elif defined(__GNUC__) && defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#define NIBBLES(v) _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, \
    2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4)), (__m256i)((v) & 0x0f0f0f0fu))
#define BITS(v) ((lanes)_mm256_add_epi8(NIBBLES(v), NIBBLES((v) >> 4)))
#define BELOW(sum) _mm256_movemask_ps(sum)
#define SUM_OF(p, q) _mm256_add_ps(_mm256_loadu_ps(p), _mm256_loadu_ps(q))
#elif defined(__GNUC__) && defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define LANES 4
#define BITS(v) ((lanes)vcntq_u8((uint8x16_t)(v)))
#elif defined(__GNUC__) && defined(__wasm_simd128__)
#include <wasm_simd128.h>
#define LANES 4
#define BITS(v) ((lanes)wasm_i8x16_popcnt((v128_t)(v)))
#elif defined(__GNUC__)
#define LANES 4
#endif
#ifdef LANES
typedef uint32_t lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#endif

/* ---- counts[c] = the number of bits in which patch[w] and kernel[w][c] differ, over all
   w, for some channels at once. Three words are added as bits before any bit is counted: a
   full adder turns three bits into one of their value, `once`, and one of twice that. The
   counts are bytes, which have room for ten times three words and two more. */
#define NEXT *(const counted *)(const void *)k ^ *from++, k += step
#define COUNT(type, lanes, bits, whole)                                                 \
  for (; c + lanes <= channels; c += lanes) {                                           \
    typedef type counted;                                                               \
    const uint32_t *k = kernel + c, *from = patch;                                      \
    counted total = {0}, none = {0}, some = none, odd, once, twice, other;              \
    for (n = words, left = 10; n >= 3; n -= 3) {                                        \
      odd = NEXT, other = NEXT, twice = odd & other, odd ^= other;                      \
      other = NEXT, once = odd ^ other;                                                 \
      some += bits(once, twice | (odd & other));                                        \
      if (--left == 0) total += whole(some), some = none, left = 10;                    \
    }                                                                                   \
    if (n > 0) {                                                                        \
      once = NEXT, twice = none;                                                        \
      if (n > 1) other = NEXT, twice = once & other, once ^= other;                     \
      some += bits(once, twice);                                                        \
    }                                                                                   \
    total += whole(some);                                                               \
    memcpy(counts + c, &total, sizeof total);                                           \
  }
/* The number of ones in every two, four and eight bits of a word, in the place of these. */
#define TWOS(v) ((v) - ((v) >> 1 & 0x55555555u))
#define FOURS(v) ((TWOS(v) & 0x33333333u) + (TWOS(v) >> 2 & 0x33333333u))
#define EIGHTS(v) (((v) & 0x0f0f0f0fu) + ((v) >> 4 & 0x0f0f0f0fu))
#define PLAIN_BITS(once, twice) EIGHTS(FOURS(once) + (FOURS(twice) << 1))
#define HALVES(v) (((v) & 0x00ff00ffu) + ((v) >> 8 & 0x00ff00ffu))
#define WHOLE(v) ((HALVES(v) & 0xffff) + (HALVES(v) >> 16))
#ifdef BITS
#define SIMD_BITS(once, twice) (BITS(once) + (BITS(twice) << 1))
#else
#define SIMD_BITS PLAIN_BITS
#endif
/* Where an instruction counts the ones of a whole word, nothing is added before, and
   several vectors share each word of the patch. */
#define COUNT_WORDS(vectors)                                                            \
  for (; c + vectors * LANES <= channels; c += vectors * LANES) {                       \
    const uint32_t *k = kernel + c;                                                     \
    lanes total[vectors] = {{0}};                                                       \
    for (n = 0; n < words; n++, k += step)                                              \
      for (left = 0; left < vectors; left++)                                            \
        total[left] += BITS(((const lanes *)(const void *)k)[left] ^ patch[n]);         \
    memcpy(counts + c, total, sizeof total);                                            \
  }
static INLINE void count_bits(const uint32_t *patch, int words, const uint32_t *kernel,
                              int step, int channels, uint32_t *counts) {
  int c = 0, n, left;
#ifdef WORDS
  COUNT_WORDS(2)
  COUNT_WORDS(1)
#elif defined(LANES)
  COUNT(lanes, LANES, SIMD_BITS, WHOLE)
#endif
  COUNT(uint32_t, 1, PLAIN_BITS, WHOLE)
}

/* ---- Copies what each tap meets, of maps of up to 32 channels: a word of the patch has as
   many taps as fit. Returns whether some tap meets nothing. */
static INLINE int gather_taps(const uint32_t *x, const window *g, int i, int j,
                              uint32_t outside, uint32_t *patch) {
  uint32_t word = 0;
  int a, b, shift = 0, missed = 0;
  TAPS(g) {
    int at = met(g, i, j, a, b);
    missed |= at < 0;
    word |= (at < 0 ? outside : x[at]) << shift, shift += g->channels;
    if (shift + g->channels > 32) *patch++ = word, word = 0, shift = 0;
  }
  if (shift > 0) *patch = word;
  return missed;
}

/* ---- y = scale (kernel * x) + bias, of signs; the kernel is [tap][word][filter], with as
   many taps in a word as fit. With thresholds, y is the sign of that: a bit is 1 for +1,
   where kernel * x >= threshold. */
static void binary_convolution(const uint32_t *x, const window *g, const uint32_t *kernel,
                               const float *scale, const float *bias,
                               const int32_t *thresholds, uint32_t *patch, void *y) {
  int size = (g->channels + 31) / 32, taps = g->kernel_height * g->kernel_width;
  int joined = size > 1 ? 1 : 32 / g->channels, n = (taps * size + joined - 1) / joined;
  int image, i, j, c, first;
  uint32_t ones = ~0u >> (-g->channels & 31); /* in the last word of a position */
  int all = taps * g->channels;
#define SUM (all - (int)(counts[c] + second[c]))
  float *numbers = (float *)y;
  uint32_t *words = (uint32_t *)y, counts[32], others[32];
  POSITIONS(g) {
    const uint32_t *own = x + image * g->height * g->width * size;
    int missed = size == 1 ? gather_taps(own, g, i, j, 0, patch)
                           : gather_words(own, g, size, size, i, j, 0, patch);
    uint32_t *other = g->padding == 0 && missed ? patch + taps * size : patch;
    if (missed && g->padding >= 0) {
      if (size == 1) gather_taps(own, g, i, j, ones, other);
      else gather_words(own, g, size, size, i, j, ~0u, other);
      for (c = size - 1; size > 1 && c < taps * size; c += size) other[c] &= ones;
    }
    for (first = 0; first < g->filters; first += 32) {
      int filters = g->filters - first < 32 ? g->filters - first : 32;
      const uint32_t *second = other != patch ? others : counts;
      for (c = 0; c <= (other != patch); c++)
        count_bits(c ? other : patch, n, kernel + first, g->filters, filters,
                   c ? others : counts);
      if (thresholds)
        for (c = 0, *words = 0; c < filters; c++)
          *words |= (uint32_t)(SUM >= thresholds[first + c]) << c;
      else
        for (c = 0; c < filters; c++)
          numbers[c] = scale[first + c] * (float)SUM + bias[first + c];
      words++, numbers += filters;
    }
  }
}

/* ---- The signs of x + shift, +1 from 0 on, as bits. No shift is -0, so that no sum is. */
static void sign_bits(const float *x, int positions, int channels, const float *shift,
                      uint32_t *y) {
  int i, first, c, n;
  for (i = 0; i < positions; i++, x += channels)
    for (first = 0; first < channels; first += 32) {
      const float *from = x + first, *by = shift + first;
      uint32_t below = 0, bits;
      n = channels - first < 32 ? channels - first : 32, c = 0;
#ifdef BELOW
      for (; c + LANES <= n; c += LANES)
        below |= (uint32_t)BELOW(SUM_OF(from + c, by + c)) << c;
#endif
      for (; c < n; c++) {
        const float sum = from[c] + by[c];
        memcpy(&bits, &sum, sizeof bits);
        below |= bits >> 31 << c;
      }
      *y++ = ~below & ~0u >> (32 - n);
    }
}

/* ---- Several numbers that are multiplied at once, as a vector of the processor. */
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
typedef float reals __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
#else
typedef float reals;
#endif

/* ---- y[r][c] = bias[c] + sum over e of x[r][e] kernel[e][c], for one row or four, which
   stay in registers. The last vector of a row starts where it ends with the row. */
#define COLUMNS(rows, type, width)                                                      \
  for (; columns >= width && c < columns; c += width) {                                 \
    const float *from = kernel + (c = c > columns - width ? columns - width : c);       \
    type sums[rows];                                                                    \
    for (r = 0; r < rows; r++) sums[r] = *(const type *)(bias + c);                     \
    for (e = 0; e < length; e++, from += step) {                                        \
      const type k = *(const type *)from;                                               \
      for (r = 0; r < rows; r++) sums[r] += k * x[r * length + e];                      \
    }                                                                                   \
    for (r = 0; r < rows; r++) *(type *)(y + r * y_step + c) = sums[r];                 \
  }
static void products(const float *x, int rows, int length, const float *kernel, int step,
                     int columns, const float *bias, float *y, int y_step) {
  int c = 0, r, e;
  if (rows == 4) {
    COLUMNS(4, reals, WIDTH)
    COLUMNS(4, float, 1)
  } else {
    COLUMNS(1, reals, WIDTH)
    COLUMNS(1, float, 1)
  }
}

/* ---- y = kernel * x + bias; the kernel is [row][column][channel][filter]. Without
   `patch` it is a product of matrices, of a 1x1 kernel and all positions. */
static void convolution(const float *x, const window *g, const float *kernel,
                        const float *bias, float *patch, float *y) {
  int size = g->channels / g->groups, filters = g->filters / g->groups;
  int length = g->kernel_height * g->kernel_width * size, image, i, j, first, rows, left;
  for (first = 0; first < g->filters; first += filters, x += size) {
    const float *from = patch ? patch : x;
    float *to = y + first;
    rows = 0, left = g->batch * g->rows * g->columns;
    POSITIONS(g) {
      if (patch)
        gather_numbers(x + image * g->height * g->width * g->channels, g, g->channels,
                       size, i, j, 0, patch + rows * length);
      if (++rows < 4 && left >= 4) continue; /* the last one to three are made alone */
      products(from, rows, length, kernel + first, g->filters, filters, bias + first, to,
               g->filters);
      if (!patch) from += rows * length;
      left -= rows, to += rows * g->filters, rows = 0;
    }
  }
}

/* ---- y = scale (signs * x) + bias, of real numbers x and a kernel of one magnitude per
   filter; each filter has its signs as bits [filter][word], in the order of the patch. */
static void convolution_of_signs(const float *x, const window *g, const uint32_t *kernel,
                                 const float *scale, const float *bias, float *patch,
                                 float *y) {
  int n = g->kernel_height * g->kernel_width * g->channels, image, i, j, f, e;
  POSITIONS(g) {
    const uint32_t *word = kernel;
    gather_numbers(x + image * g->height * g->width * g->channels, g, g->channels,
                   g->channels, i, j, 0, patch);
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

/* ---- Before a loop whose numbers may be made in any order, as vectors. */
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed" /* where a function is no instruction */
#define IN_ANY_ORDER _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__) && defined(__AVX__) /* unrolled, short loops are no vectors */
#define IN_ANY_ORDER _Pragma("GCC ivdep") _Pragma("GCC unroll 1")
#elif defined(__GNUC__)
#define IN_ANY_ORDER _Pragma("GCC ivdep")
#else
#define IN_ANY_ORDER
#endif

/* ---- For every position and all filters c: y = `start`, then `each` for every tap that
   meets the map, with its numbers `from`, then `last`, when `n` taps have met it. */
#define FILTERS IN_ANY_ORDER for (c = 0; c < g->filters; c++)
#define MEETING(start, each, last)                                                      \
  int image, i, j, a, b, c, n, at;                                                      \
  POSITIONS(g) {                                                                        \
    const float *own = x + image * g->height * g->width * g->channels, *from;           \
    n = 0;                                                                              \
    FILTERS y[c] = (start);                                                             \
    TAPS(g) {                                                                           \
      if ((at = met(g, i, j, a, b)) < 0) continue;                                      \
      n++, from = own + at * g->channels;                                               \
      each                                                                              \
    }                                                                                   \
    last                                                                                \
    y += g->filters;                                                                    \
  }

/* ---- Depthwise: y[c m + j] = kernel[..][c m + j] * x[c] + bias, for m filters each. */
static void depthwise_convolution(const float *x, const window *g, const float *kernel,
                                  const float *bias, float *y) {
  int m = g->filters / g->channels;
  MEETING(bias[c], const float *k = kernel + (a * g->kernel_width + b) * g->filters;
          if (m == 1) FILTERS y[c] += from[c] * k[c];
          else FILTERS y[c] += from[c / m] * k[c];, )
}

/* ---- The largest number of each window. */
static void max_pool(const float *x, const window *g, float *y) {
  MEETING(-INFINITY, FILTERS y[c] = from[c] > y[c] ? from[c] : y[c];, )
}

/* ---- The mean of each window, without its padding. */
static void average_pool(const float *x, const window *g, float *y) {
  MEETING(0, FILTERS y[c] += from[c];, FILTERS y[c] /= (float)n;)
}

/* ---- Transposed: each number of x is added, times kernel[row][column][channel][filter],
   to all that a convolution from y to x reads there. */
static void transposed_convolution(const float *x, const window *g, const float *kernel,
                                   float *y) {
  int image, i, j, a, b, c, f, n = g->height * g->width * g->channels;
  memset(y, 0, (size_t)(g->batch * n) * sizeof *y);
  POSITIONS(g) {
    const float *k = kernel;
    TAPS(g) {
      int at = met(g, i, j, a, b);
      for (c = 0; c < g->channels; c++, k += g->filters)
        for (f = 0; at >= 0 && f < g->filters; f++)
          y[image * n + at * g->channels + c] += x[f] * k[f];
    }
    x += g->filters;
  }
}

/* ---- A function of the numbers A, B and C of up to three maps, over six axes. A map with
   a step of 0 along an axis has the same number along all of it. Where the map that is made
   has a step of 0, numbers are reduced to one, which is Y so far. No number that is made is
   read for another one, even where y takes the place of a. */
typedef struct {
  int sizes[6], a[6], b[6], c[6], y[6];
} walk;
#define START(m) (i[0] * w->m[0] + i[1] * w->m[1] + i[2] * w->m[2] + i[3] * w->m[3])
#define EACH(d) for (i[d] = 0; i[d] < w->sizes[d]; i[d]++)
#define WALK(name, function)                                                            \
  static float name##_of(float A, float B, float C, float Y) {                          \
    (void)A, (void)B, (void)C, (void)Y;                                                 \
    return function;                                                                    \
  }                                                                                     \
  static void name(const float *a, const float *b, const float *c, const walk *w,       \
                   float *y) {                                                          \
    int i[5], j, n = w->sizes[5], da = w->a[5], db = w->b[5], dc = w->c[5], dy = w->y[5];\
    int close = da == 1 && db == 1 && dc == 1 && dy == 1;                               \
    EACH(0) EACH(1) EACH(2) EACH(3) {                                                   \
      const float *pa = a + START(a), *pb = b + START(b), *pc = c + START(c);           \
      float *py = y + START(y);                                                         \
      EACH(4) {                                                                         \
        if (close)                                                                      \
          IN_ANY_ORDER                                                                  \
          for (j = 0; j < n; j++) py[j] = name##_of(pa[j], pb[j], pc[j], py[j]);        \
        else                                                                            \
          for (j = 0; j < n; j++)                                                       \
            py[j * dy] = name##_of(pa[j * da], pb[j * db], pc[j * dc], py[j * dy]);     \
        pa += w->a[4], pb += w->b[4], pc += w->c[4], py += w->y[4];                     \
      }                                                                                 \
    }                                                                                   \
  }

/* ---- y = scale x + offset per channel, for whole numbers, such as bytes of an image. */
#define WHOLE_NUMBERS(name, type)                                                       \
  static void name(const type *x, int positions, int channels, const float *scale,      \
                   const float *offset, float *y) {                                     \
    int i;                                                                              \
    for (i = 0; i < positions * channels; i++)                                          \
      y[i] = scale[i % channels] * (float)x[i] + offset[i % channels];                  \
  }

/* ---- y[i] = table[rows[i]], rows of `size` numbers each. */
static void take(const float *table, int count, const float *rows, int n, int size,
                 float *y) {
  for (; n > 0; n--, rows++, y += size) {
    int row = *rows < 0 ? 0 : *rows < (float)count ? (int)*rows : count - 1;
    memcpy(y, table + row * size, (size_t)size * sizeof *y);
  }
}

/* The instructions of AVX-512 that kernels.c uses, in plain C: tests of them run on every
   processor. */
#include <stdint.h>
#include <string.h>
#define _CMP_LT_OQ 17
typedef uint32_t __m512i __attribute__((vector_size(64)));
typedef float __m512 __attribute__((vector_size(64)));
static __m512i _mm512_popcnt_epi32(__m512i a) {
  for (int i = 0; i < 16; i++) a[i] = (uint32_t)__builtin_popcount(a[i]);
  return a;
}
static __m512 _mm512_loadu_ps(const float *p) {
  __m512 a;
  memcpy(&a, p, sizeof a);
  return a;
}
static __m512 _mm512_setzero_ps(void) { return (__m512){0}; }
static __m512 _mm512_add_ps(__m512 a, __m512 b) { return a + b; }
static uint32_t _mm512_cmp_ps_mask(__m512 a, __m512 b, int how) {
  uint32_t bits = 0;
  int i;
  for (i = 0; i < 16; i++) bits |= (uint32_t)(how == _CMP_LT_OQ && a[i] < b[i]) << i;
  return bits;
}

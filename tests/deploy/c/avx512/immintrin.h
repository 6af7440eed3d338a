/* The instructions of AVX-512 that kernels.c uses, in plain C: tests of them run on every
   processor. */
#include <stdint.h>
#include <string.h>
#define _CMP_GE_OQ 29
typedef struct {
  uint32_t of[16];
} __m512i;
typedef struct {
  float of[16];
} __m512;
#define EACH16(type, value)           \
  type r;                             \
  int i;                              \
  for (i = 0; i < 16; i++) r.of[i] = (value); \
  return r
static __m512i _mm512_loadu_si512(const void *p) {
  __m512i r;
  memcpy(&r, p, sizeof r);
  return r;
}
static void _mm512_storeu_si512(void *p, __m512i a) { memcpy(p, &a, sizeof a); }
static __m512i _mm512_set1_epi32(int a) { EACH16(__m512i, (uint32_t)a); }
static __m512i _mm512_xor_si512(__m512i a, __m512i b) { EACH16(__m512i, a.of[i] ^ b.of[i]); }
static __m512i _mm512_add_epi32(__m512i a, __m512i b) { EACH16(__m512i, a.of[i] + b.of[i]); }
static __m512i _mm512_popcnt_epi32(__m512i a) {
  EACH16(__m512i, (uint32_t)__builtin_popcount(a.of[i]));
}
static __m512 _mm512_loadu_ps(const float *p) { EACH16(__m512, p[i]); }
static __m512 _mm512_setzero_ps(void) { EACH16(__m512, 0); }
static __m512 _mm512_add_ps(__m512 a, __m512 b) { EACH16(__m512, a.of[i] + b.of[i]); }
static uint32_t _mm512_cmp_ps_mask(__m512 a, __m512 b, int how) {
  uint32_t bits = 0;
  int i;
  for (i = 0; i < 16; i++) bits |= (uint32_t)(how == _CMP_GE_OQ && a.of[i] >= b.of[i]) << i;
  return bits;
}

// The counter-based generator of delira_nca.rollout.masks: pcg4d of Jarzynski and Olano (2020), bit for bit.
#pragma once
#include <math.h>
#include <stdint.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif
#include "vec.h"

constexpr uint32_t PCG_MULTIPLIER = 1664525u, PCG_INCREMENT = 1013904223u, NOISE_STREAM = 0x9E3779B9u;

NCA_INLINE uint32_t pcg_begin(uint32_t word) { return word * PCG_MULTIPLIER + PCG_INCREMENT; }

// x and y are begun words of seed and step, z of the sample, item is the number of a cell.
NCA_INLINE void pcg4d(uint32_t x, uint32_t y, uint32_t z, uint32_t item, uint32_t out[4]) {
  uint32_t w = pcg_begin(item);
  uint32_t a = w * y + x, b = z * a + y;
  z += a * b, w += b * z;
  a ^= a >> 16, b ^= b >> 16, z ^= z >> 16, w ^= w >> 16;
  a += b * w, b += z * a, z += a * b, w += b * z;
  out[0] = a, out[1] = b, out[2] = z, out[3] = w;
}

// Which of 64 consecutive cells fire.
static inline uint64_t fire_word(uint32_t x, uint32_t y, uint32_t z, uint32_t first, uint32_t threshold) {
  uint32_t hash[64];
  for (int i = 0; i < 64; i++) {
    uint32_t words[4];
    pcg4d(x, y, z, first + (uint32_t)i, words);
    hash[i] = words[3] >> 8;
  }
  uint64_t bits = 0;
#if defined(__AVX512F__)
  for (int i = 0; i < 4; i++)
    bits |= (uint64_t)_mm512_cmplt_epu32_mask(_mm512_loadu_si512(hash + 16 * i), _mm512_set1_epi32((int)threshold)) << 16 * i;
#else
  for (int i = 0; i < 64; i++) bits |= (uint64_t)(hash[i] < threshold) << i;
#endif
  return bits;
}

// Adds noise of a standard deviation to the channels [from, to) of one cell's update.
static inline void add_noise(float* update, uint32_t x, uint32_t y, uint32_t z, uint32_t cell, uint32_t channels,
                             uint32_t from, float deviation) {
  constexpr int mean = 8 * 65535 / 2;
  const float scale = (float)sqrt(12.0 / (8.0 * 4294967295.0));
  for (uint32_t c = from; c < channels; c++) {
    uint32_t words[4];
    pcg4d(x, y, z, cell * channels + c, words);
    int32_t total = 0;
    for (int i = 0; i < 4; i++) total += (int32_t)(words[i] & 0xFFFF) + (int32_t)(words[i] >> 16);
    update[c] += (float)(total - mean) * scale * deviation;
  }
}

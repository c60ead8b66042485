// One update of every cell: what it sees, its rule, its fire mask. The engine writes #defines and offsets above this.

uniform highp sampler2DArray state;
uniform uint seed, stepNumber, threshold;
uniform float time;

vec4 seen[WIDEST];
vec4 other[WIDEST];

#if NUMBERS_IN_UNIFORMS
layout(std140) uniform Numbers { vec4 numbers[COUNT]; };
vec4 number(int k) { return numbers[k]; }
#else
uniform highp sampler2D numbers;
vec4 number(int k) { return texelFetch(numbers, ivec2(k % ROW, k / ROW), 0); }
#endif

mat4 block(int k) { return mat4(number(k), number(k + 1), number(k + 2), number(k + 3)); }

vec4 activate(vec4 v) {
#if ACTIVATION == 0
  return max(v, 0.0);
#elif ACTIVATION == 1
  return mix(v, 0.01 * v, lessThan(v, vec4(0.0)));
#elif ACTIVATION == 2
  vec4 x = v * 0.70710678, t = 1.0 / (1.0 + 0.5 * abs(x));
  vec4 s = 0.17087277 * t - 0.82215223;
  s = s * t + 1.48851587;
  s = s * t - 1.13520398;
  s = s * t + 0.27886807;
  s = s * t - 0.18628806;
  s = s * t + 0.09678418;
  s = s * t + 0.37409196;
  s = s * t + 1.00002368;
  vec4 tail = t * exp(-x * x - 1.26551223 + t * s);
  return 0.5 * v * mix(tail, 2.0 - tail, greaterThanEqual(x, vec4(0.0)));
#elif ACTIVATION == 3
  return v / (1.0 + exp(-v));
#else
  vec4 e = exp(-2.0 * abs(v));
  return sign(v) * (1.0 - e) / (1.0 + e);
#endif
}

// pcg4d, as in delira_nca.rollout.masks, for sample 0.
uvec4 hash(uint key, uint item) {
  uvec4 v = uvec4(key, stepNumber, 0u, item) * 1664525u + 1013904223u;
  uint a = v.w * v.y + v.x;
  uint b = v.z * a + v.y;
  v.z += a * b;
  v.w += b * v.z;
  uvec4 m = uvec4(a, b, v.z, v.w);
  m ^= m >> 16u;
  m.x += m.y * m.w;
  m.y += m.z * m.x;
  m.z += m.x * m.y;
  m.w += m.y * m.z;
  return m;
}

float noise(uint item) {
  uvec4 m = hash(seed + 0x9E3779B9u, item);
  uvec4 halves = (m & 0xFFFFu) + (m >> 16u);
  return (float(halves.x + halves.y + halves.z + halves.w) - 262140.0) * NOISE_SCALE;
}

// Row or column that is seen at `at`; -1 where zeros lie.
int padded(int at, int size) {
  if (at >= 0 && at < size) return at;
#if PADDING == 1
  return at < 0 ? -at : 2 * (size - 1) - at;
#elif PADDING == 2
  return at < 0 ? 0 : size - 1;
#elif PADDING == 3
  return (at % size + size) % size;
#else
  return -1;
#endif
}

void perceive(ivec2 cell, ivec2 size) {
  for (int k = 0; k < DEPTHWISE; ++k) seen[k] = number(FILTER_BIAS + k);
  for (int k = 0; k < FULL; ++k) seen[DEPTHWISE + k] = number(FULL_BIAS + k);
  for (int tap = 0; tap < KERNEL.x * KERNEL.y; ++tap) {
    ivec2 at = cell + ivec2(tap % KERNEL.x, tap / KERNEL.x) - KERNEL / 2;
    at = ivec2(padded(at.x, size.x), padded(at.y, size.y));
    if (at.x < 0 || at.y < 0) continue;
    for (int l = 0; l < LAYERS; ++l) {
      vec4 x = texelFetch(state, ivec3(at, l), 0);
      for (int f = 0; f < FILTERS; ++f) seen[f * LAYERS + l] += number(FILTER + (f * TAPS + tap) * LAYERS + l) * x;
      for (int o = 0; o < FULL; ++o) seen[DEPTHWISE + o] += block(FULL_FILTER + ((o * TAPS + tap) * LAYERS + l) * 4) * x;
    }
  }
#if FULL_RELU
  for (int o = 0; o < FULL; ++o) seen[DEPTHWISE + o] = max(seen[DEPTHWISE + o], 0.0);
#endif
#if TIME
  seen[DEPTHWISE + FULL] = vec4(time, 0.0, 0.0, 0.0);
#endif
}

vec4 neuron(int weight, int bias, int inputs, int o) {
  vec4 sum = number(bias + o);
  for (int i = 0; i < inputs; ++i) sum += block(weight + (o * inputs + i) * 4) * seen[i];
  return sum;
}

void dense(int weight, int bias, int inputs, int outputs) {
  for (int o = 0; o < outputs; ++o) other[o] = activate(neuron(weight, bias, inputs, o));
  for (int o = 0; o < outputs; ++o) seen[o] = other[o];
}

// No life within two cells: neither this cell nor one that it could keep alive will be.
bool isFarFromLife(ivec2 cell, ivec2 size) {
#if ALIVE_BEFORE
  for (int v = max(cell.y - 2, 0); v <= min(cell.y + 2, size.y - 1); ++v)
    for (int u = max(cell.x - 2, 0); u <= min(cell.x + 2, size.x - 1); ++u)
      if (texelFetch(state, ivec3(u, v, ALIVE_LAYER), 0)[ALIVE_COMPONENT] > ALIVE_THRESHOLD) return false;
  return true;
#else
  return false;
#endif
}

void main() {
  ivec2 cell = ivec2(gl_FragCoord.xy), size = textureSize(state, 0).xy;
  uint item = uint(cell.y * size.x + cell.x);
  vec4 update[OUTPUTS];
  for (int o = 0; o < OUTPUTS; ++o) update[o] = vec4(0.0);
  if (hash(seed, item).w >> 8u < threshold && !isFarFromLife(cell, size)) {
    perceive(cell, size);
    HIDDEN_LAYERS
    for (int o = 0; o < OUTPUTS; ++o) update[o] = number(LAST_BIAS + FIRST + o);
    for (int i = 0; i < LAST_INPUTS; ++i) {
      vec4 h = LAST_INPUT(i);
      for (int o = 0; o < OUTPUTS; ++o) update[o] += block(LAST + ((FIRST + o) * LAST_INPUTS + i) * 4) * h;
    }
#if NOISE
    for (int o = 0; o < OUTPUTS; ++o)
      for (int c = 0; c < 4; ++c) {
        int channel = (FIRST + o) * 4 + c;
        if (channel < FIXED || channel >= CHANNELS) continue;
        update[o][c] += UPDATE_NOISE * noise(item * uint(CHANNELS) + uint(channel));
      }
#endif
  }
  WRITE_OUTPUTS
}

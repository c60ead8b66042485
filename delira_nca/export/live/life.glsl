// What is not alive, before the update or after it, becomes zero in all channels but the fixed ones.

uniform highp sampler2DArray state, candidate;

bool isAlive(highp sampler2DArray grid, ivec2 cell, ivec2 size) {
  for (int v = max(cell.y - 1, 0); v <= min(cell.y + 1, size.y - 1); ++v)
    for (int u = max(cell.x - 1, 0); u <= min(cell.x + 1, size.x - 1); ++u)
      if (texelFetch(grid, ivec3(u, v, ALIVE_LAYER), 0)[ALIVE_COMPONENT] > ALIVE_THRESHOLD) return true;
  return false;
}

vec4 keepFixed(vec4 x, int layer) {
  ivec4 channel = layer * 4 + ivec4(0, 1, 2, 3);
  return mix(vec4(0.0), x, lessThan(channel, ivec4(FIXED)));
}

void main() {
  ivec2 cell = ivec2(gl_FragCoord.xy), size = textureSize(state, 0).xy;
  bool alive = true;
#if ALIVE_BEFORE
  alive = isAlive(state, cell, size);
#endif
#if ALIVE_AFTER
  alive = alive && isAlive(candidate, cell, size);
#endif
  WRITE_OUTPUTS
}

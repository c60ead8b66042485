// Numbers of the page, as the exporter wrote them: base64 of little-endian float32 or float16.

function float16(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** The way back of `unpack`, in float32. */
export function pack(shape, values) {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { shape, type: "float32", data: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")) };
}

/** {shape, type, data} to {shape, values: Float32Array}; null stays null. */
export function unpack(packed) {
  if (packed === null) return null;
  const bytes = Uint8Array.from(atob(packed.data), (character) => character.charCodeAt(0));
  const values =
    packed.type === "float16"
      ? Float32Array.from(new Uint16Array(bytes.buffer), float16)
      : new Float32Array(bytes.buffer);
  return { shape: packed.shape, values };
}

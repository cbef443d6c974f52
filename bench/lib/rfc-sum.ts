/**
 * A baseline: the sum of RFC 1071 §4.1 as it stands there, with a Buffer's accessors.
 * @returns  folded, not complemented
 */
export function rfcSum(buffer: Buffer, at: number, len: number): number {
  let total = 0
  for (let i = 0; i + 1 < len; i += 2) total += buffer.readUInt16BE(at + i)
  if (len % 2 === 1) total += buffer.readUInt8(at + len - 1) << 8
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16)
  return total
}

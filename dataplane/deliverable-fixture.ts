/**
 * What may come out of a datagram, found the slow and plain way: written from the RFCs, apart from the
 * engine, whose trusted twin it is. Test support, used by no other code.
 */

/** The host that the datagram came to. */
export interface Receiver {
  readonly encap: 'udp' | 'vxlan' | 'ipip'
  /** Text of its VTEP's MAC address without colons, and its VNI as three bytes of text. */
  readonly mac: string
  readonly vni: string
  /** First bytes of the addresses of its subnets, as text. */
  readonly subnet: string
  readonly subnet6: string
  readonly mtu: number
}

/** The packet that must be delivered as it is in the datagram, null = none. Source: RFC 7348 §5, 791, 8200 */
export function deliverable(datagram: Uint8Array, receiver: Receiver): Buffer | null {
  const inner = innerOf(Buffer.from(datagram), receiver)
  if (inner === null || inner.length === 0) return null
  const version = (inner[0] ?? 0) >> 4
  return version === 4 ? whole4(inner, receiver) : version === 6 ? whole6(inner, receiver) : null
}

/** As a packet leaves: over `udp` one TTL lower, with the header checksum that goes with it. */
export function aged(packet: Buffer, encap: Receiver['encap']): Buffer {
  const copy = Buffer.from(packet)
  if (encap !== 'udp') return copy
  if ((copy[0] ?? 0) >> 4 === 6) {
    copy[7] = (copy[7] ?? 0) - 1
    return copy
  }
  copy[8] = (copy[8] ?? 0) - 1
  const sum = copy.readUInt16BE(10) + 0x100
  copy.writeUInt16BE((sum & 0xffff) + (sum >>> 16), 10)
  return copy
}

function innerOf(bytes: Buffer, { encap, mac, vni }: Receiver): Buffer | null {
  if (encap === 'udp') return bytes
  if (encap === 'ipip') return behindOuter(bytes)
  if (bytes.length < 23 || (bytes.readUInt8(0) & 0x08) === 0) return null
  if (bytes.toString('hex', 4, 7) !== vni || bytes.toString('hex', 8, 14) !== mac) return null
  const type = { 0x0800: 4, 0x86dd: 6 }[bytes.readUInt16BE(20)]
  return type === bytes.readUInt8(22) >> 4 ? bytes.subarray(22) : null
}

/** The outer header must be whole; CE in it is passed on, or ends the packet. Source: RFC 2003, RFC 6040 §4.2 */
function behindOuter(bytes: Buffer): Buffer | null {
  if (bytes.length < 20 || bytes.readUInt8(0) >> 4 !== 4 || bytes.readUInt8(9) !== 4) return null
  const headerLen = 4 * (bytes.readUInt8(0) & 15)
  const total = bytes.readUInt16BE(2)
  if (headerLen < 20 || total < headerLen || total > bytes.length) return null
  const inner = Buffer.from(bytes.subarray(headerLen))
  const first = inner[0] ?? 0
  if (first >> 4 !== 4) return null
  if ((bytes.readUInt8(1) & 3) !== 3 || inner.length < 20) return inner
  const ecn = inner.readUInt8(1) & 3
  if (ecn === 0) return null
  inner[1] = inner.readUInt8(1) | 3
  const sum = inner.readUInt16BE(10) - (3 - ecn)
  inner.writeUInt16BE(sum < 0 ? sum + 0xffff : sum, 10)
  return inner
}

function whole4(packet: Buffer, { subnet, mtu, encap }: Receiver): Buffer | null {
  if (packet.length < 20) return null
  const headerLen = 4 * (packet.readUInt8(0) & 15)
  const total = packet.readUInt16BE(2)
  if (headerLen < 20 || headerLen > packet.length) return null
  if (total < headerLen || total > packet.length || total > mtu) return null
  let sum = 0
  for (let at = 0; at < headerLen; at += 2) sum += packet.readUInt16BE(at)
  if (sum % 0xffff !== 0 || sum === 0) return null
  if (!packet.toString('hex', 16, 20).startsWith(subnet)) return null
  return encap === 'udp' && packet.readUInt8(8) <= 1 ? null : packet.subarray(0, total)
}

function whole6(packet: Buffer, { subnet6, mtu, encap }: Receiver): Buffer | null {
  if (packet.length < 40) return null
  const total = 40 + packet.readUInt16BE(4)
  if (total > packet.length || total > mtu) return null
  if (!packet.toString('hex', 24, 40).startsWith(subnet6)) return null
  return encap === 'udp' && packet.readUInt8(7) <= 1 ? null : packet.subarray(0, total)
}

/**
 * Packets for the offload tests, made and cut the slow way: on plain byte arrays, every checksum
 * summed word by word (RFC 1071 §1), nothing shared with the code under test. Support of tests and
 * benches, used by no other code.
 */

export const FIN = 0x01
export const PSH = 0x08
export const ACK = 0x10
export const URG = 0x20
export const ECE = 0x40
export const CWR = 0x80

export const TCP = 6
export const UDP = 17

/** What a packet is made of; everything has a default. */
export interface PacketSpec {
  readonly protocol?: number
  /** 4 bytes each, or 16. */
  readonly from?: readonly number[]
  readonly to?: readonly number[]
  /** Class byte: DSCP and ECN. */
  readonly tos?: number
  readonly ttl?: number
  readonly id?: number
  /** DF, MF and offset; of IPv6 the flow label. */
  readonly fragment?: number
  /** IPv4 options, a multiple of 4 bytes; or IPv6 extension headers, whose last names the protocol. */
  readonly options?: readonly number[]
  /** Protocol number of the first extension header. */
  readonly nextHeader?: number
  readonly ports?: readonly [number, number]
  readonly seq?: number
  readonly ack?: number
  readonly flags?: number
  readonly window?: number
  readonly urgent?: number
  readonly tcpOptions?: readonly number[]
  readonly payload?: ArrayLike<number>
  /** UDP without a checksum. */
  readonly isUnsummed?: boolean
}

export const DF = 0x4000
export const HOST_A = [10, 5, 1, 7] as const
export const HOST_B = [10, 5, 2, 9] as const
export const HOST_A6 = [0xfd, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7] as const
export const HOST_B6 = [0xfd, 5, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9] as const

const u16 = (value: number): number[] => [(value >>> 8) & 0xff, value & 0xff]
const u32 = (value: number): number[] => [...u16(value >>> 16), ...u16(value)]
const get16 = (bytes: ArrayLike<number>, at: number): number =>
  (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0)
const get32 = (bytes: ArrayLike<number>, at: number): number =>
  get16(bytes, at) * 65536 + get16(bytes, at + 2)

/** The one's-complement sum, word by word, every carry brought around at once. */
export function slowSum(bytes: readonly number[]): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) {
    sum += get16(bytes, i)
    if (sum > 0xffff) sum -= 0xffff
  }
  return sum
}

/** The checksum field of a transport header that is filled in but for it. */
function transportSum(
  from: readonly number[],
  to: readonly number[],
  protocol: number,
  l4: readonly number[],
): number {
  const length = from.length === 4 ? [0, protocol, ...u16(l4.length)] : []
  const length6 = from.length === 16 ? [...u32(l4.length), 0, 0, 0, protocol] : []
  const sum = 0xffff - slowSum([...from, ...to, ...length, ...length6, ...l4])
  return protocol === UDP && sum === 0 ? 0xffff : sum
}

/** Puts a packet together from its headers' bytes, with all lengths and checksums. */
function assemble(
  ip: readonly number[],
  l4: readonly number[],
  to: readonly number[],
  protocol: number,
  isUnsummed: boolean,
): Uint8Array {
  const isV6 = (ip[0] ?? 0) >> 4 === 6
  const ipBytes = [...ip]
  const l4Bytes = [...l4]
  const from = isV6 ? ip.slice(8, 24) : ip.slice(12, 16)
  if (protocol === UDP) l4Bytes.splice(4, 4, ...u16(l4.length), 0, 0)
  else l4Bytes.splice(16, 2, 0, 0)
  const sum = isUnsummed ? 0 : transportSum(from, to, protocol, l4Bytes)
  l4Bytes.splice(protocol === UDP ? 6 : 16, 2, ...u16(sum))
  if (isV6) {
    ipBytes.splice(4, 2, ...u16(ip.length - 40 + l4.length))
  } else {
    ipBytes.splice(2, 2, ...u16(ip.length + l4.length))
    ipBytes.splice(10, 2, 0, 0)
    ipBytes.splice(10, 2, ...u16(0xffff - slowSum(ipBytes)))
  }
  return Uint8Array.from([...ipBytes, ...l4Bytes])
}

/** A packet with right lengths and checksums. */
export function createPacket(spec: PacketSpec = {}): Uint8Array {
  const { protocol = TCP, from = HOST_B, to = HOST_A, ttl = 63, tos = 0, options = [] } = spec
  const { ports = [4660, 22136], payload = [], fragment = DF, flags = ACK } = spec
  const isV6 = from.length === 16
  const ip = isV6
    ? [0x60 | (tos >> 4), ((tos & 15) << 4) | ((fragment >> 16) & 15), ...u16(fragment), 0, 0]
    : [0x45 + options.length / 4, tos, 0, 0, ...u16(spec.id ?? 1), ...u16(fragment)]
  if (isV6) ip.push(spec.nextHeader ?? protocol, ttl, ...from, ...to)
  else ip.push(ttl, protocol, 0, 0, ...from, ...to)
  ip.push(...options)
  const l4 = [...u16(ports[0]), ...u16(ports[1])]
  if (protocol === TCP) {
    const tcpOptions = spec.tcpOptions ?? []
    l4.push(...u32(spec.seq ?? 1000), ...u32(spec.ack ?? 2000))
    l4.push(0x50 + (tcpOptions.length / 4) * 16, flags, ...u16(spec.window ?? 500), 0, 0)
    l4.push(...u16(spec.urgent ?? 0), ...tcpOptions)
  } else {
    l4.push(0, 0, 0, 0)
  }
  for (let i = 0; i < payload.length; i++) l4.push(payload[i] ?? 0)
  return assemble(ip, l4, finalDestination(ip), protocol, spec.isUnsummed ?? false)
}

/** Where the transport header begins, and its protocol, behind whatever extension headers. */
function transport(packet: ArrayLike<number>): { at: number; protocol: number } {
  const first = packet[0] ?? 0
  if (first >> 4 === 4) return { at: (first & 15) * 4, protocol: packet[9] ?? 0 }
  let at = 40
  let protocol = packet[6] ?? 0
  while (protocol === 0 || protocol === 43 || protocol === 60) {
    protocol = packet[at] ?? 0
    at += ((packet[at + 1] ?? 0) + 1) * 8
  }
  return { at, protocol }
}

/** RFC 8200 §8.1: with a routing header that has segments left it is the last address there. */
function finalDestination(packet: ArrayLike<number>): number[] {
  const bytes = Array.from(packet)
  if ((bytes[0] ?? 0) >> 4 === 4) return bytes.slice(16, 20)
  let at = 40
  let protocol = bytes[6] ?? 0
  while (protocol === 0 || protocol === 43 || protocol === 60) {
    const end = at + ((bytes[at + 1] ?? 0) + 1) * 8
    if (protocol === 43 && (bytes[at + 3] ?? 0) > 0) return bytes.slice(end - 16, end)
    protocol = bytes[at] ?? 0
    at = end
  }
  return bytes.slice(24, 40)
}

/**
 * Cuts a super-packet as Linux does in software (tcp_gso_segment, __udp_gso_segment).
 * @param size  payload bytes per segment
 */
export function createSegments(packet: Uint8Array, size: number): Uint8Array[] {
  const { at, protocol } = transport(packet)
  const headersLen = at + (protocol === TCP ? ((packet[at + 12] ?? 0) >> 4) * 4 : 8)
  const headers = Array.from(packet.subarray(0, headersLen))
  const payload = Array.from(packet.subarray(headersLen))
  const count = Math.max(1, Math.ceil(payload.length / size))
  const to = finalDestination(packet)
  return Array.from({ length: count }, (_, k) => {
    const ip = headers.slice(0, at)
    const l4 = headers.slice(at)
    if ((ip[0] ?? 0) >> 4 === 4) ip.splice(4, 2, ...u16((get16(ip, 4) + k) % 65536))
    if (protocol === TCP) {
      l4.splice(4, 4, ...u32((get32(l4, 4) + k * size) % 2 ** 32))
      let flags = l4[13] ?? 0
      if (k < count - 1) flags &= ~(FIN | PSH)
      if (k > 0) flags &= ~CWR
      l4[13] = flags
    }
    l4.push(...payload.slice(k * size, (k + 1) * size))
    return assemble(ip, l4, to, protocol, false)
  })
}

/** The virtio-net header of a super-packet or an unfinished packet, as the kernel fills it in. */
export function createVnet(packet: Uint8Array, size: number, extraType = 0): Uint8Array {
  const { at, protocol } = transport(packet)
  const isV6 = (packet[0] ?? 0) >> 4 === 6
  const type = size === 0 ? 0 : protocol === UDP ? 5 : isV6 ? 4 : 1
  const headersLen = at + (protocol === TCP ? ((packet[at + 12] ?? 0) >> 4) * 4 : 8)
  const little = (value: number): number[] => [value & 0xff, value >> 8]
  return Uint8Array.from([
    1,
    type | extraType,
    ...little(size === 0 ? 0 : headersLen),
    ...little(size),
    ...little(at),
    ...little(protocol === TCP ? 16 : 6),
  ])
}

/** A copy whose transport checksum is what a kernel leaves to a network card: the pseudo-header's sum. */
export function createUnfinished(packet: Uint8Array): Uint8Array {
  const { at, protocol } = transport(packet)
  const isV6 = (packet[0] ?? 0) >> 4 === 6
  const from = Array.from(isV6 ? packet.subarray(8, 24) : packet.subarray(12, 16))
  const l4Len = packet.length - at
  const copy = packet.slice()
  const sum = slowSum([...from, ...finalDestination(packet), 0, protocol, ...u32(l4Len)])
  copy.set(u16(sum), at + (protocol === TCP ? 16 : 6))
  return copy
}

/**
 * The packets that the kernel makes of one that was written to a TUN with virtio-net headers.
 * @throws an error when the header or the checksum field is not what the kernel needs
 */
export function createWritten(vnet: Uint8Array, packet: Uint8Array): Uint8Array[] {
  if (vnet.every((byte) => byte === 0)) return [packet]
  const size = (vnet[4] ?? 0) + (vnet[5] ?? 0) * 256
  const right = Buffer.from(createVnet(packet, size))
  if (!right.equals(vnet)) {
    const got = Buffer.from(vnet).toString('hex')
    throw new Error(`virtio-net header ${got}, should be ${right.toString('hex')}`)
  }
  if (!Buffer.from(createUnfinished(packet)).equals(packet)) {
    throw new Error('the checksum field is not the sum of the pseudo-header')
  }
  const headerLen = ((packet[0] ?? 0) & 15) * 4
  const isV4 = (packet[0] ?? 0) >> 4 === 4
  if (isV4 && slowSum(Array.from(packet.subarray(0, headerLen))) !== 0xffff) {
    throw new Error('the IPv4 header checksum is wrong')
  }
  // Without a segment size it is one packet whose checksum is unfinished.
  if (size === 0) return createSegments(packet, packet.length)
  const segments = createSegments(packet, size)
  if (segments.length < 2) throw new Error('a super-packet of one packet')
  return segments
}

/** Addresses, protocol and ports as text: what order is kept within. */
export function describeFlow(packet: Uint8Array): string {
  const { at, protocol } = transport(packet)
  const isV6 = (packet[0] ?? 0) >> 4 === 6
  const addresses = isV6 ? packet.subarray(8, 40) : packet.subarray(12, 20)
  const isFragment = !isV6 && (get16(packet, 6) & 0x3fff) !== 0
  const ports = isFragment ? 'fragment' : Buffer.from(packet.subarray(at, at + 4)).toString('hex')
  return `${Buffer.from(addresses).toString('hex')} ${protocol} ${ports}`
}

/** A packet as text. The IPv4 id counts only where DF is not set (RFC 6864 §4.1). */
export function describeBytes(packet: Uint8Array): string {
  const copy = packet.slice()
  const isAtomic = (copy[0] ?? 0) >> 4 === 4 && (get16(copy, 6) & 0x7fff) === DF
  if (isAtomic && slowSum(Array.from(copy.subarray(0, ((copy[0] ?? 0) & 15) * 4))) === 0xffff) {
    copy.fill(0, 4, 6)
    copy.fill(0, 10, 12)
  }
  return Buffer.from(copy).toString('hex')
}

/** Packets by flow, in order, as text. */
export function describeFlows(packets: readonly Uint8Array[]): Record<string, string[]> {
  const flows: Record<string, string[]> = {}
  for (const packet of packets) (flows[describeFlow(packet)] ??= []).push(describeBytes(packet))
  return flows
}

/** Bytes that tell where they are. */
export function createPayload(len: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(len)
  let state = Math.imul(seed, 0x9e37_79b1) | 1
  for (let i = 0; i < len; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) | 0
    bytes[i] = state >>> 16
  }
  return bytes
}

/**
 * IPv4 packets for the tests: built and taken apart by the RFCs' plain words, sharing no code with
 * the dataplane, so that neither can hide the other's faults.
 */

export interface Ipv4Fields {
  readonly src: string
  readonly dst: string
  readonly ttl: number
  readonly protocol: number
  readonly totalLen: number
  readonly id: number
  /** Flags (bits 15..13) and fragment offset in units of 8 bytes. */
  readonly fragment: number
  /** Whether the header checksum is right. */
  readonly isSumRight: boolean
  readonly payload: Buffer
}

export const PROTO_ICMP = 1
export const PROTO_TCP = 6
export const PROTO_UDP = 17

/** RFC 1071: the ones' complement sum of 16-bit words, an odd byte padded with zero. */
export function onesSum(bytes: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) {
    sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)
    if (sum > 0xffff) sum -= 0xffff
  }
  return sum
}

export function addressBytes(text: string): Buffer {
  return Buffer.from(text.split('.').map(Number))
}

/** An IPv4 packet without options (RFC 791 §3.1). */
export function ipv4Packet(
  header: {
    readonly src: string
    readonly dst: string
    readonly ttl?: number
    readonly protocol?: number
    readonly id?: number
    readonly fragment?: number
  },
  payload: Uint8Array,
): Buffer {
  const packet = Buffer.concat([Buffer.alloc(20), payload])
  packet[0] = 0x45
  packet.writeUInt16BE(packet.length, 2)
  packet.writeUInt16BE(header.id ?? 0x1234, 4)
  packet.writeUInt16BE(header.fragment ?? 0, 6)
  packet[8] = header.ttl ?? 64
  packet[9] = header.protocol ?? PROTO_UDP
  addressBytes(header.src).copy(packet, 12)
  addressBytes(header.dst).copy(packet, 16)
  return withSum(packet)
}

/** The packet with its header checksum computed afresh, over the first 20 bytes. */
export function withSum(packet: Buffer): Buffer {
  packet.writeUInt16BE(0, 10)
  packet.writeUInt16BE(~onesSum(packet.subarray(0, 20)) & 0xffff, 10)
  return packet
}

/** A UDP datagram (RFC 768) with checksum, for an IPv4 packet between two addresses. */
export function udpDatagram(
  src: string,
  dst: string,
  sport: number,
  dport: number,
  data: Uint8Array,
): Buffer {
  const datagram = Buffer.concat([Buffer.alloc(8), data])
  datagram.writeUInt16BE(sport, 0)
  datagram.writeUInt16BE(dport, 2)
  datagram.writeUInt16BE(datagram.length, 4)
  const sum = ~onesSum(Buffer.concat([pseudo(src, dst, PROTO_UDP, datagram.length), datagram]))
  datagram.writeUInt16BE((sum & 0xffff) === 0 ? 0xffff : sum & 0xffff, 6)
  return datagram
}

function pseudo(src: string, dst: string, protocol: number, length: number): Buffer {
  const header = Buffer.alloc(12)
  addressBytes(src).copy(header, 0)
  addressBytes(dst).copy(header, 4)
  header[9] = protocol
  header.writeUInt16BE(length, 10)
  return header
}

/** Takes a packet apart. @throws RangeError when it is no whole IPv4 packet */
export function parseIpv4(packet: Uint8Array): Ipv4Fields {
  const bytes = Buffer.from(packet)
  if (bytes.length < 20) throw new RangeError(`${bytes.length} bytes are no IPv4 packet`)
  const headerLen = (bytes.readUInt8(0) & 15) * 4
  const totalLen = bytes.readUInt16BE(2)
  if (bytes.readUInt8(0) >> 4 !== 4 || headerLen < 20 || totalLen < headerLen) {
    throw new RangeError(`no IPv4 header: ${bytes.subarray(0, 20).toString('hex')}`)
  }
  if (totalLen > bytes.length) throw new RangeError(`${bytes.length} of ${totalLen} bytes`)
  const dotted = (at: number) => [...bytes.subarray(at, at + 4)].join('.')
  return {
    src: dotted(12),
    dst: dotted(16),
    ttl: bytes.readUInt8(8),
    protocol: bytes.readUInt8(9),
    totalLen,
    id: bytes.readUInt16BE(4),
    fragment: bytes.readUInt16BE(6),
    isSumRight: onesSum(bytes.subarray(0, headerLen)) === 0xffff,
    payload: bytes.subarray(headerLen, totalLen),
  }
}

/**
 * Whether the checksum of what an unfragmented packet carries is right: ICMP (RFC 792), UDP (RFC
 * 768, where 0 = none), TCP (RFC 9293). Other protocols have none that is known here.
 */
export function isTransportSumRight(packet: Ipv4Fields): boolean {
  const { src, dst, protocol, payload } = packet
  switch (protocol) {
    case PROTO_ICMP:
      return onesSum(payload) === 0xffff
    case PROTO_UDP:
      if (payload.readUInt16BE(6) === 0) return true
      break
    case PROTO_TCP:
      break
    default:
      return true
  }
  const whole = Buffer.concat([pseudo(src, dst, protocol, payload.length), payload])
  return onesSum(whole) === 0xffff
}

/** The IPv4 packet behind an Ethernet header (RFC 894); null = another type. */
export function behindEthernet(frame: Uint8Array): Buffer | null {
  const bytes = Buffer.from(frame)
  return bytes.length >= 14 && bytes.readUInt16BE(12) === 0x0800 ? bytes.subarray(14) : null
}

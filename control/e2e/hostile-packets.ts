/**
 * Datagrams that a stranger may send to the daemon's port, each with the verdict that it must get:
 * all that a check of an IPv4 packet can be wrong about, and what only looks wrong.
 */
import { ipv4Packet, onesSum, PROTO_ICMP, udpDatagram, withSum } from './ipv4.js'

export interface HostileDatagram {
  readonly name: string
  readonly bytes: Buffer
  /** `forward` or the name of the drop. */
  readonly verdict: string
}

/** Overlay MTU of the lab: 1500 − 28. */
const MTU = 1472

/** A router solicitation as Linux sends it (RFC 4861 §4.1), written out. */
const ROUTER_SOLICITATION = Buffer.from(
  '6000000000083aff' +
    'fe800000000000000000000000000001' +
    'ff020000000000000000000000000002' +
    '85007bb800000000',
  'hex',
)

/**
 * @param to     address of a pod of the attacked host
 * @param from   inner source, an address of another host's subnet
 * @param other  an address of the attacked host's underlay interface
 */
export function hostileDatagrams(to: string, from: string, other: string): HostileDatagram[] {
  const udp = (size: number) => udpDatagram(from, to, 40000, 9, Buffer.alloc(size, 0x61))
  const good = (changes: object = {}) => ipv4Packet({ src: from, dst: to, ...changes }, udp(32))
  const patched = (at: number, value: number) => {
    const packet = good()
    packet.writeUInt8(value, at)
    return withSum(packet)
  }
  const ofLength = (total: number) => {
    const packet = good()
    packet.writeUInt16BE(total, 2)
    return withSum(packet)
  }
  const list: HostileDatagram[] = []
  const add = (verdict: string, name: string, bytes: Buffer): void => {
    list.push({ name, bytes, verdict })
  }

  add('drop_not_ip', 'nothing', Buffer.alloc(0))
  add('drop_not_ip', 'one zero byte', Buffer.alloc(1))
  for (const version of [0, 1, 2, 3, 5, 7, 8, 15]) {
    add('drop_not_ip', `version ${version}`, patched(0, (version << 4) | 5))
  }
  add('drop_ipv6_unsupported', 'IPv6', ROUTER_SOLICITATION)
  add('drop_ipv6_unsupported', 'one byte of IPv6', Buffer.from([0x60]))

  for (const size of [1, 2, 19]) {
    add('drop_ipv4_truncated', `the first ${size} bytes`, good().subarray(0, size))
  }
  add('drop_ipv4_truncated', 'one byte is missing', good().subarray(0, -1))
  add('drop_ipv4_truncated', 'total length 65535', ofLength(65535))
  add('drop_ipv4_truncated', 'total length one too long', ofLength(good().length + 1))
  for (const words of [0, 1, 4]) {
    add('drop_ipv4_malformed', `header of ${words} words`, patched(0, 0x40 | words))
  }
  for (const total of [0, 1, 19]) {
    add('drop_ipv4_malformed', `total length ${total}`, ofLength(total))
  }
  add('drop_ipv4_malformed', 'header longer than the packet', longHeader())

  add('drop_ipv4_checksum', 'a flipped bit in the source', flipped(good(), 15))
  add('drop_ipv4_checksum', 'a flipped bit in the checksum', flipped(good(), 11))
  add('drop_ipv4_checksum', 'a flipped bit in the TTL', flipped(good(), 8))
  add('drop_ipv4_checksum', 'header of 6 words, sum over 5', patched(0, 0x46))

  add('drop_ttl', 'TTL 0', good({ ttl: 0 }))
  add('drop_ttl', 'TTL 1', good({ ttl: 1 }))

  for (const dst of ['10.6.0.1', '8.8.8.8', '127.0.0.1', '0.0.0.0', '224.0.0.1', other, from]) {
    add('drop_not_our_subnet', `to ${dst}`, good({ dst }))
  }
  add('drop_not_our_subnet', 'to everybody', good({ dst: '255.255.255.255' }))

  const tooLong = MTU + 1 - 28
  add('drop_oversize', 'one byte above the MTU', ipv4Packet({ src: from, dst: to }, udp(tooLong)))
  add('drop_oversize', '4000 bytes', ipv4Packet({ src: from, dst: to }, udp(4000)))
  add('drop_oversize', 'the largest', ipv4Packet({ src: from, dst: to }, udp(65507 - 28)))

  add('forward', 'plain', good())
  add('forward', 'TTL 2', good({ ttl: 2 }))
  add('forward', 'exactly the MTU', ipv4Packet({ src: from, dst: to }, udp(MTU - 28)))
  add(
    'forward',
    'bytes behind the end',
    Buffer.concat([good({ id: 0x5678 }), Buffer.alloc(100, 0xee)]),
  )
  add('forward', 'a header and nothing else', ipv4Packet({ src: from, dst: to }, Buffer.alloc(0)))
  add('forward', 'an unknown protocol', good({ protocol: 253 }))
  add('forward', 'an option', withOption(good()))
  // Fragments are whole packets to the daemon; that they lie is the receiving kernel's to see.
  add('forward', 'a fragment beyond 65535', good({ fragment: 0x1fff, protocol: PROTO_ICMP }))
  add(
    'forward',
    'a fragment of 1 byte',
    ipv4Packet({ src: from, dst: to, fragment: 0x2001 }, Buffer.alloc(1)),
  )
  add('forward', 'every flag', good({ fragment: 0xe000 }))
  return list
}

/** What the TUN device must show of a forwarded datagram: its total length, one TTL less. */
export function delivered(datagram: Buffer): Buffer {
  const packet = Buffer.from(datagram.subarray(0, datagram.readUInt16BE(2)))
  packet.writeUInt8(packet.readUInt8(8) - 1, 8)
  packet.writeUInt16BE(0, 10)
  const header = packet.subarray(0, (packet.readUInt8(0) & 15) * 4)
  packet.writeUInt16BE(~onesSum(header) & 0xffff, 10)
  return packet
}

function flipped(packet: Buffer, at: number): Buffer {
  packet.writeUInt8(packet.readUInt8(at) ^ 0x04, at)
  return packet
}

/** 20 bytes that claim a header of 60. */
function longHeader(): Buffer {
  const packet = ipv4Packet({ src: '10.5.1.2', dst: '10.5.2.2' }, Buffer.alloc(0))
  packet.writeUInt8(0x4f, 0)
  return withSum(packet)
}

/** The packet with four bytes of options: a timestamp (RFC 791 §3.1) without room. */
function withOption(packet: Buffer): Buffer {
  const longer = Buffer.concat([packet.subarray(0, 20), NO_OPERATIONS, packet.subarray(20)])
  longer.writeUInt8(0x46, 0)
  longer.writeUInt16BE(longer.length, 2)
  longer.writeUInt16BE(0, 10)
  longer.writeUInt16BE(~onesSum(longer.subarray(0, 24)) & 0xffff, 10)
  return longer
}

/** RFC 791 §3.1: three times "no operation", then "end of options". */
const NO_OPERATIONS = Buffer.from([1, 1, 1, 0])

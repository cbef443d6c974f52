/**
 * Self-test of writing super-packets to a TUN: one of TCP and one of UDP, made as the coalescer makes
 * them, for the kernel to judge (virtio_net_hdr_to_skb).
 *
 * Nobody gets them: the checksum of their IPv4 header is wrong, so the kernel drops them where a
 * packet enters its stack (ip_rcv_core) and only counts them, twice `IpInHdrErrors`. The device must be
 * up for that; on one that is down every write is an EIO, which says nothing.
 */
import { native, type Native } from '../native/native.js'
import { SuperPackets } from '../offload/super-packets.js'
import { createArena } from '../packet/arena.js'
import { Entries } from '../packet/entries.js'
import { VNET_HDR_LEN } from '../packet/layout.js'
import * as ipv4 from '../wire/ipv4.js'
import * as tcp from '../wire/tcp.js'
import * as udp from '../wire/udp.js'
import { describeErrno } from './errno.js'
import type { Outcome } from './socket-self-test.js'

/** The calls that the test makes. */
export type DeviceKernel = Pick<Native, 'write'>

/** Bytes of payload of each of the two packets in a super-packet. */
const SIZE = 100
const VNET_AT = 0
/** The packet itself, aligned. */
const AT = 16
const NO_NAME = -1

// Documentation addresses and the discard port (RFC 5737, RFC 863).
const FROM = 0xc0000201 | 0
const TO = 0xc0000202 | 0
const PORT = 9

const EINVAL = 22

/**
 * Writes a super-packet that goes nowhere.
 * @param fd  a TUN with virtio-net headers that is up
 */
export function testSuperPacket(
  fd: number,
  isTcp: boolean,
  kernel: DeviceKernel = native,
): Outcome {
  const headers = ipv4.HEADER_LEN + (isTcp ? tcp.HEADER_LEN : udp.HEADER_LEN)
  const total = headers + 2 * SIZE
  const arena = createArena(new ArrayBuffer(AT + total))
  const { view } = arena
  const protocol = isTcp ? ipv4.PROTO_TCP : ipv4.PROTO_UDP
  ipv4.write(view, AT, headers + SIZE, 0, 0, ipv4.DONT_FRAGMENT, 1, protocol, FROM, TO)
  const l4 = AT + ipv4.HEADER_LEN
  if (isTcp) tcp.write(view, l4, PORT, PORT, 0, 0, tcp.ACK, 0)
  else udp.write(view, l4, PORT, PORT, udp.HEADER_LEN + SIZE)
  new SuperPackets(arena, 1).complete(0, AT, headers, VNET_AT, isTcp, SIZE, total, 0)
  ipv4.setChecksum(view, AT, ipv4.checksum(view, AT) ^ 0x5555)

  const entries = new Entries(1, 2)
  const i = entries.begin(NO_NAME)
  entries.addPiece(i, VNET_AT, VNET_HDR_LEN)
  entries.addPiece(i, AT, total)
  entries.setSegment(i, SIZE)
  kernel.write(fd, arena.bytes, entries.pieces, entries.entries, 1)
  const errno = entries.result(i)
  if (errno === 0) return { kind: 'passed' }
  const reason = `a ${isTcp ? 'TCP' : 'UDP'} super-packet: ${describeErrno(errno)}`
  return { kind: errno === EINVAL ? 'failed' : 'unknown', reason }
}

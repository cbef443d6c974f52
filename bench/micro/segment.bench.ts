/**
 * Segmentation: a super-packet of nearly 64 KiB becomes 46 packets. Planned: fresh headers, slices of
 * the payload where it lies. Beside it what one would write first: every packet put together elsewhere
 * and summed, natively or not. Figures are per segment.
 */
import { native } from '../../dataplane/native/native.js'
import * as flow from '../../dataplane/flow-fixture.js'
import { createSegmenter, HEADER_SLOT } from '../../dataplane/offload/segment.js'
import { createArena } from '../../dataplane/packet/arena.js'
import { HEADROOM } from '../../dataplane/packet/layout.js'
import { rfcSum } from '../lib/rfc-sum.js'
import { runSuite, type Case } from '../lib/suite.js'

const MSS = 1420
const COUNT = 46
const OPTIONS = [1, 1, 8, 10, 0, 0, 7, 1, 0, 0, 9, 2]

/** A super-packet, and where it lies. */
interface Cuttable {
  readonly packet: Uint8Array
  readonly at: number
  readonly headersLen: number
  readonly isTcp: boolean
}

// Beside the super-packets: headers that are planned, segments that are put together.
const UDP_AT = (1 << 16) + 2 * HEADROOM
const HEADERS_AT = 1 << 18
const SEGMENTS_AT = HEADERS_AT + COUNT * HEADER_SLOT

const arena = createArena(new ArrayBuffer(SEGMENTS_AT + (1 << 17)))
const { bytes } = arena
const buffer = Buffer.from(bytes.buffer)
const segmenter = createSegmenter(arena, HEADERS_AT, COUNT, native)

function lay(protocol: number, at: number, headersLen: number): Cuttable {
  const payload = flow.createPayload(COUNT * MSS)
  const packet = flow.createPacket({ protocol, tcpOptions: OPTIONS, payload })
  bytes.set(flow.createUnfinished(packet), at)
  return { packet, at, headersLen, isTcp: protocol === flow.TCP }
}

const tcp = lay(flow.TCP, HEADROOM, 52)
const udp = lay(flow.UDP, UDP_AT, 28)

function plan(name: string, { packet, at, isTcp }: Cuttable): Case {
  const batch = (): number => {
    let planned = 0
    segmenter.clear()
    const count = segmenter.begin(at, packet.length, MSS, isTcp)
    for (let k = 0; k < count; k++) {
      planned += segmenter.header(k) + segmenter.sliceAt(k) + segmenter.sliceLen(k)
    }
    return planned
  }
  if (batch() === 0) throw new Error(`${name}: not cut`)
  return { name, size: COUNT, prepare: () => batch }
}

/** Puts every segment together elsewhere, and computes its checksums anew. */
function copy(name: string, from: Cuttable, sumOf: (at: number, len: number) => number): Case {
  const { headersLen, isTcp } = from
  const len = headersLen + MSS
  const batch = (): number => {
    for (let k = 0; k < COUNT; k++) {
      const at = SEGMENTS_AT + k * len
      const slice = from.at + headersLen + k * MSS
      buffer.copy(buffer, at, from.at, from.at + headersLen)
      buffer.copy(buffer, at + headersLen, slice, slice + MSS)
      buffer.writeUInt16BE(len, at + 2)
      buffer.writeUInt16BE(1 + k, at + 4)
      buffer.writeUInt16BE(0, at + 10)
      buffer.writeUInt16BE(~sumOf(at, 20) & 0xffff, at + 10)
      const l4 = at + 20
      const field = l4 + (isTcp ? 16 : 6)
      if (isTcp) buffer.writeInt32BE((buffer.readInt32BE(l4 + 4) + k * MSS) | 0, l4 + 4)
      else buffer.writeUInt16BE(len - 20, l4 + 4)
      buffer.writeUInt16BE(0, field)
      const total = sumOf(at + 12, 8) + (isTcp ? 6 : 17) + len - 20 + sumOf(l4, len - 20)
      buffer.writeUInt16BE(~((total & 0xffff) + (total >>> 16)) & 0xffff, field)
    }
    return len
  }
  batch()
  const right = Buffer.concat(flow.createSegments(from.packet, MSS))
  if (!right.equals(bytes.subarray(SEGMENTS_AT, SEGMENTS_AT + right.length))) {
    throw new Error(`${name}: wrong segments`)
  }
  return { name, size: COUNT, prepare: () => batch }
}

const nativeSum = (at: number, len: number): number => native.checksum(bytes, at, len)
const plainSum = (at: number, len: number): number => rfcSum(buffer, at, len)
const sums = new Int32Array(COUNT)

await runSuite('segment', [
  plan('TCP, planned', tcp),
  plan('UDP, planned', udp),
  {
    name: 'the payload sums alone',
    size: COUNT,
    prepare: () => () => native.checksumSteps(bytes, tcp.at + 52, COUNT * MSS, MSS, sums),
  },
  copy('TCP, copied, summed natively', tcp, nativeSum),
  copy('UDP, copied, summed natively', udp, nativeSum),
  copy('TCP, copied, summed as in RFC 1071', tcp, plainSum),
])

/**
 * A baseline: joining packets as one would write it first. Flows stand in a Map under a text, what a
 * packet says is an object, and a super-packet's payloads are copied one behind the other. IPv4 and TCP
 * or UDP only, and without the finer points of what may be joined.
 */
import type { Arena } from '../../dataplane/packet/arena.js'
import { MAX_PACKET } from '../../dataplane/packet/layout.js'
import { rfcSum } from './rfc-sum.js'

interface Parsed {
  readonly key: string
  readonly bytes: Buffer
  readonly headersLen: number
  readonly isTcp: boolean
  readonly seq: number
}

interface Open {
  readonly first: Parsed
  readonly payloads: Buffer[]
  len: number
  nextSeq: number
}

export class CopyingJoiner {
  private readonly buffer: Buffer
  private readonly open = new Map<string, Open>()
  private done: Buffer[] = []

  constructor(arena: Arena) {
    this.buffer = Buffer.from(arena.bytes.buffer)
  }

  /** @param sum  of all its bytes */
  add(at: number, len: number, sum: number): void {
    const packet = parse(this.buffer.subarray(at, at + len), sum)
    const open = this.open.get(packet.key)
    const payload = packet.bytes.subarray(packet.headersLen)
    const isNext = payload.length > 0 && open?.nextSeq === packet.seq
    if (open !== undefined && isNext && open.len + payload.length <= MAX_PACKET) {
      open.payloads.push(payload)
      open.len += payload.length
      if (packet.isTcp) open.nextSeq += payload.length
      return
    }
    if (open !== undefined) this.finish(open)
    const nextSeq = packet.isTcp ? packet.seq + payload.length : 0
    this.open.set(packet.key, { first: packet, payloads: [payload], len, nextSeq })
  }

  /** @returns the super-packets and packets, each in one piece */
  flush(): Buffer[] {
    for (const open of this.open.values()) this.finish(open)
    this.open.clear()
    const { done } = this
    this.done = []
    return done
  }

  private finish({ first, payloads }: Open): void {
    if (payloads.length === 1) {
      this.done.push(first.bytes)
      return
    }
    const joined = Buffer.concat([first.bytes.subarray(0, first.headersLen), ...payloads])
    joined.writeUInt16BE(joined.length, 2)
    joined.writeUInt16BE(0, 10)
    joined.writeUInt16BE(~rfcSum(joined, 0, 20) & 0xffff, 10)
    this.done.push(joined)
  }
}

/** Takes a packet apart; one with a wrong checksum becomes a flow of its own. */
function parse(bytes: Buffer, packetSum: number): Parsed {
  const isTcp = bytes.readUInt8(9) === 6
  const protocol = isTcp ? 6 : 17
  const headersLen = 20 + (isTcp ? (bytes.readUInt8(32) >> 4) * 4 : 8)
  const sum = packetSum + rfcSum(bytes, 12, 8) + protocol + bytes.length - 20
  const isRight = (sum & 0xffff) + (sum >>> 16) === 0xffff
  const from = `${bytes.readUInt32BE(12)}:${bytes.readUInt16BE(20)}`
  const to = `${bytes.readUInt32BE(16)}:${bytes.readUInt16BE(22)}`
  return {
    key: `${protocol} ${from} ${to}${isRight ? '' : ' wrong'}`,
    bytes,
    headersLen,
    isTcp,
    seq: isTcp ? bytes.readInt32BE(24) : 0,
  }
}

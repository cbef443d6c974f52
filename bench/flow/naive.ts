/**
 * A baseline: the decisions of the engine without offloads, as one would write them down first. A view
 * and an object a packet, a Map a prefix length, header checksums computed anew.
 */
import type { Batch } from '../../dataplane/packet/batch.js'
import type { Entries } from '../../dataplane/packet/entries.js'
import { MapPerLength4 } from '../lib/map-per-length.js'
import type { Route4 } from '../lib/routes.js'
import { SUBNET } from './host.js'
import { MTU } from '../lib/loads.js'

interface Header {
  readonly length: number
  readonly total: number
  readonly ttl: number
  readonly dst: number
}

const NAME_SIZE = 32
const NO_NAME = -1

export class NaiveForwarder {
  private readonly routes: MapPerLength4

  constructor(routes: readonly Route4[]) {
    this.routes = new MapPerLength4(routes)
  }

  /** inside → outside: one entry for every packet that goes on. */
  forwardOut(batch: Batch, out: Entries): void {
    for (let row = 0; row < batch.count; row++) {
      const packet = packetOf(batch, row)
      const header = parse(packet)
      if (header === null || header.ttl <= 1 || isOurs(header.dst)) continue
      const hop = this.routes.lookup(header.dst)
      if (hop === 0) continue
      age(packet, header)
      out.add(batch.at(row), header.total, hop * NAME_SIZE, header.total)
    }
  }

  /** outside → inside, likewise. */
  forwardIn(batch: Batch, out: Entries): void {
    for (let row = 0; row < batch.count; row++) {
      const packet = packetOf(batch, row)
      const header = parse(packet)
      if (header === null || header.ttl <= 1 || !isOurs(header.dst)) continue
      if (header.total > MTU || checksumOf(packet, header.length) !== 0) continue
      age(packet, header)
      out.add(batch.at(row), header.total, NO_NAME, header.total)
    }
  }
}

const isOurs = (dst: number): boolean => (dst & ~255) === SUBNET

function packetOf(batch: Batch, row: number): Buffer {
  return Buffer.from(batch.arena.bytes.buffer, batch.at(row), batch.len(row))
}

function parse(packet: Buffer): Header | null {
  const length = ((packet[0] ?? 0) & 15) * 4
  if (packet.length < 20 || (packet[0] ?? 0) >> 4 !== 4 || length < 20) return null
  const total = packet.readUInt16BE(2)
  if (total < length || total > packet.length) return null
  return { length, total, ttl: packet.readUInt8(8), dst: packet.readInt32BE(16) }
}

function age(packet: Buffer, { length, ttl }: Header): void {
  packet.writeUInt8(ttl - 1, 8)
  packet.writeUInt16BE(0, 10)
  packet.writeUInt16BE(checksumOf(packet, length), 10)
}

function checksumOf(packet: Buffer, length: number): number {
  let sum = 0
  for (let i = 0; i < length; i += 2) sum += packet.readUInt16BE(i)
  while (sum > 0xffff) sum = (sum >>> 16) + (sum & 0xffff)
  return ~sum & 0xffff
}

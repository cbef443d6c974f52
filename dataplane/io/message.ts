/**
 * Messages: one packet or datagram as a value of its own, with where it came from or goes to.
 *
 * Devices in TypeScript (memory, capture, fault) keep messages in queues and turn them into rows of
 * a batch, or entries back into messages, here. Unlike the path itself they may allocate.
 */
import type { Arena } from '../packet/arena.js'
import { BATCH_COLUMNS, type Batch } from '../packet/batch.js'
import type { Entries } from '../packet/entries.js'
import type { Endpoint } from './endpoint.js'

export interface Message {
  readonly bytes: Uint8Array
  /** Outer source of a datagram; null for a packet of an inside device. */
  readonly from: Endpoint | null
  /** The bytes are only the beginning of what was sent. */
  readonly isTruncated: boolean
  /** Index of the socket it came in on. */
  readonly socket: number
  /** Bytes per datagram of a train; absent or 0 = a single one. */
  readonly segment?: number
  /** Virtio-net header that precedes a packet of an inside device; absent = none. */
  readonly vnet?: Uint8Array
}

/** A message of an inside device: takes ownership of `bytes` and of its virtio-net header, if any. */
export function packetMessage(bytes: Uint8Array, vnet?: Uint8Array): Message {
  const message = { bytes, from: null, isTruncated: false, socket: 0 }
  return vnet === undefined ? message : { ...message, vnet }
}

/**
 * Copies a message into a row of a batch, a virtio-net header into the bytes before the packet. What
 * does not fit the slot is cut off and the row is marked, as a socket does with MSG_TRUNC.
 * @param row  0 .. capacity − 1; the caller keeps `batch.count`
 */
export function putRow(batch: Batch, row: number, message: Message): void {
  const { bytes, from } = message
  const len = Math.min(bytes.length, batch.room)
  batch.arena.bytes.set(bytes.subarray(0, len), batch.at(row))
  if (message.vnet !== undefined) {
    batch.arena.bytes.set(message.vnet, batch.at(row) - message.vnet.length)
  }
  const isTruncated = message.isTruncated || len < bytes.length
  batch.fill(row, len, isTruncated, from?.family ?? 0, from?.address[0] ?? 0, from?.port ?? 0)
  for (let word = 1; word < 4; word++) {
    setColumn(batch, BATCH_COLUMNS.SRC + word, row, from?.address[word] ?? 0)
  }
  setColumn(batch, BATCH_COLUMNS.SOCKET, row, message.socket)
  setColumn(batch, BATCH_COLUMNS.SEGMENT, row, message.segment ?? 0)
}

/**
 * Copies a row of a batch out; a train that GRO merged becomes one message per datagram. Of a packet
 * with a virtio-net header only the packet is taken.
 */
export function takeRow(batch: Batch, row: number): Message[] {
  const at = batch.at(row)
  const family = batch.family(row)
  const words = family === 4 ? [0] : [0, 1, 2, 3]
  const from: Endpoint | null =
    family === 4 || family === 6
      ? { family, address: words.map((word) => batch.source(row, word)), port: batch.port(row) }
      : null
  const whole = batch.arena.bytes.slice(at, at + batch.len(row))
  return cut(whole, batch.segment(row)).map((bytes) => ({
    bytes,
    from,
    isTruncated: batch.isTruncated(row),
    socket: batch.socket(row),
  }))
}

/**
 * Joins the pieces of an entry into bytes of their own.
 * @throws RangeError when a piece lies outside the arena
 */
export function gatherEntry(arena: Arena, entries: Entries, i: number): Uint8Array {
  const first = entries.firstPiece(i)
  const pieces = Array.from({ length: entries.pieceTotal(i) }, (_, n) => {
    const at = entries.pieceAt(first + n)
    const end = at + entries.pieceLen(first + n)
    if (at < 0 || end < at || end > arena.bytes.length) {
      throw new RangeError(`entry ${i}: bytes ${at} to ${end} lie outside the arena`)
    }
    return arena.bytes.subarray(at, end)
  })
  const joined = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0))
  let at = 0
  for (const piece of pieces) {
    joined.set(piece, at)
    at += piece.length
  }
  return joined
}

/**
 * Cuts a train into its datagrams: all of `segment` bytes, the last one possibly shorter.
 * @param segment  bytes per datagram, 0 = not a train
 */
export function cut(bytes: Uint8Array, segment: number): Uint8Array[] {
  if (segment <= 0 || bytes.length <= segment) return [bytes]
  const count = Math.ceil(bytes.length / segment)
  return Array.from({ length: count }, (_, n) => bytes.slice(n * segment, (n + 1) * segment))
}

function setColumn(batch: Batch, column: number, row: number, value: number): void {
  batch.columns[column * batch.capacity + row] = value
}

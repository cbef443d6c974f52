/**
 * A belt: the devices of an engine under measurement. It hands out prepared packets without end and
 * takes whatever it is given.
 *
 * The engine rewrites headers in place, and a real device brings fresh bytes with every read. So each
 * read writes the head of every packet again, all of it that the engine may change, and its length;
 * what lies behind the head no engine touches, and is written once. The time that this takes is part
 * of the figures, and measured by itself beside them.
 */
import type { InsideDevice, OutsidePort } from '../../dataplane/io/device.js'
import { BATCH_COLUMNS, type Batch } from '../../dataplane/packet/batch.js'
import type { Entries } from '../../dataplane/packet/entries.js'
import { FEW } from '../../dataplane/packet/intake.js'

/** What a device hands over in one row. */
export interface Row {
  /** A packet, or the datagrams of a train one behind the other. */
  readonly bytes: Uint8Array
  /** Its virtio-net header; left out = an empty one. */
  readonly vnet?: Uint8Array
  /** Bytes per datagram of a train, a multiple of 4; 0 = a single one. */
  readonly segment: number
  /** Packets that it stands for. */
  readonly packets: number
}

/** Traffic in one direction. */
export interface Load {
  /** Rows that one read hands over if the batch holds as many: 1 or a multiple of FEW. */
  readonly perRead: number
  /**
   * Handed out in turn: a multiple of `perRead`. Rows that may come to share a slot, FEW apart,
   * differ in their heads alone.
   */
  readonly rows: readonly Row[]
}

/** The head of a packet: IPv4 and TCP without options, where everything lies that an engine changes. */
const HEAD_WORDS = 10
const HEAD = 4 * HEAD_WORDS

const { LEN, SEGMENT } = BATCH_COLUMNS

export class Belt implements InsideDevice, OutsidePort {
  private readonly load: Load | null
  /** The heads of every row's packets, one after another; bytes of each row, and from head to head. */
  private readonly heads: Int32Array
  private readonly lens: Int32Array
  private readonly steps: Int32Array
  private words: Int32Array = new Int32Array(0)
  /** The batch of the last read, and all so far: an engine has several over the same slots. */
  private batch: Batch | null = null
  private readonly known = new Set<Batch>()
  private row = 0
  private head = 0
  /** Packets that the engine handed over, and in how many messages. */
  packets = 0
  messages = 0

  /** @param load  what is read from the device; null = nothing ever waits */
  constructor(load: Load | null) {
    const rows = load?.rows ?? []
    this.load = load
    this.lens = Int32Array.from(rows, ({ bytes }) => bytes.length)
    this.steps = Int32Array.from(rows, ({ bytes, segment }) => segment || bytes.length)
    this.heads = Int32Array.from(rows.flatMap((row) => Array.from(createHeads(row))))
  }

  read(batch: Batch): number {
    if (this.load === null) return 0
    if (batch !== this.batch) this.take(batch, this.load)
    const { words } = this
    const { lens, steps, heads } = this
    const { columns, capacity } = batch
    const count = Math.min(this.load.perRead, capacity)
    if (this.row === lens.length) this.row = this.head = 0
    let head = this.head
    for (let i = 0; i < count; i++) {
      const len = lens[this.row + i] ?? 0
      const step = steps[this.row + i] ?? 0
      const at = columns[i] ?? 0
      columns[LEN * capacity + i] = len
      columns[SEGMENT * capacity + i] = step < len ? step : 0
      for (let done = 0; done < len; done += step) {
        copyHead(heads, head, words, (at + done) >> 2)
        head = (head + HEAD_WORDS) | 0
      }
    }
    this.row += count
    this.head = head
    batch.count = count
    return count
  }

  private take(batch: Batch, load: Load): void {
    if (!this.known.has(batch)) {
      this.known.add(batch)
      fill(batch, load)
    }
    this.batch = batch
    this.words = new Int32Array(batch.arena.bytes.buffer)
  }

  receive(batch: Batch): number {
    return this.read(batch)
  }

  write(entries: Entries): number {
    for (let i = 0; i < entries.count; i++) {
      entries.setResult(i, 0)
      this.packets += entries.packets(i)
    }
    this.messages += entries.count
    return entries.count
  }

  send(entries: Entries): number {
    return this.write(entries)
  }

  sendInFragments(entries: Entries): void {
    this.write(entries)
  }

  pathRoom(): number {
    return 0
  }
}

/** Copies HEAD_WORDS words. Written out: 8 ns where a loop takes 18. */
function copyHead(from: Int32Array, i: number, to: Int32Array, k: number): void {
  to[k] = from[i] ?? 0
  to[(k + 1) | 0] = from[(i + 1) | 0] ?? 0
  to[(k + 2) | 0] = from[(i + 2) | 0] ?? 0
  to[(k + 3) | 0] = from[(i + 3) | 0] ?? 0
  to[(k + 4) | 0] = from[(i + 4) | 0] ?? 0
  to[(k + 5) | 0] = from[(i + 5) | 0] ?? 0
  to[(k + 6) | 0] = from[(i + 6) | 0] ?? 0
  to[(k + 7) | 0] = from[(i + 7) | 0] ?? 0
  to[(k + 8) | 0] = from[(i + 8) | 0] ?? 0
  to[(k + 9) | 0] = from[(i + 9) | 0] ?? 0
}

/** Writes everything once, into the slots in which it will be found at every read. */
function fill(batch: Batch, { rows, perRead }: Load): void {
  if (rows.length % perRead !== 0) throw new RangeError('a row would change its slot')
  rows.forEach((row, i) => {
    const inSlot = rows[i % Math.min(perRead, FEW)] ?? row
    if (!behindHead(row).equals(behindHead(inSlot))) throw new RangeError('rows differ')
  })
  for (const [i, { bytes, vnet = new Uint8Array(10) }] of rows
    .slice(0, Math.min(perRead, batch.capacity))
    .entries()) {
    batch.fill(i, bytes.length, false, 4, 0, 0)
    batch.arena.bytes.set(bytes, batch.at(i))
    batch.arena.bytes.set(vnet, batch.at(i) - vnet.length)
  }
}

/** What a read does not write again. */
function behindHead({ bytes, vnet = new Uint8Array(10), segment }: Row): Buffer {
  const kept = Buffer.concat([bytes, vnet])
  for (let at = 0; at < bytes.length; at += segment || bytes.length) kept.fill(0, at, at + HEAD)
  return kept
}

function createHeads({ bytes, segment }: Row): Int32Array {
  const step = segment || bytes.length
  const heads = new Uint8Array(Math.ceil(bytes.length / step) * HEAD)
  for (let at = 0; at < bytes.length; at += step) {
    heads.set(bytes.subarray(at, at + HEAD), (at / step) * HEAD)
  }
  return new Int32Array(heads.buffer)
}

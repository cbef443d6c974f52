/**
 * Runs: packets of equal size to one peer leave as one message, which the kernel cuts (UDP_SEGMENT).
 *
 * A packet joins the open run to its peer, from its socket, if it is as long as the run's first; a shorter one may
 * join as the last. Otherwise it opens the next run. So packets to one peer keep their order, and
 * packets to different peers may be interleaved freely: each peer has a run of its own to grow.
 *
 * The kernel cuts a run only into datagrams that fit the path whole. Where the path to a peer turned
 * out too narrow, packets that are longer leave by themselves for a while: some of them may be
 * fragmented, the senders of the others hear of it.
 */
import type { Entries } from '../packet/entries.js'

/** Peers to be avoided, direct-mapped by hop. */
const SLOTS = 32
/** Sockets that a port sends from, at most. */
export const MAX_SOCKETS = 8
/** Open runs, direct-mapped by hop and socket. */
const RUNS = SLOTS * MAX_SOCKETS
/** A message of 65507 bytes, the most UDP can carry, is split again by the kernel; this is not. */
export const MAX_RUN_BYTES = 65490
/** How long a peer gets no runs of long packets. Trying again too early costs one refused send. */
export const AVOID_MS = 60_000

export class Runs {
  private readonly out: Entries
  /** Packets a run may have; 1 = every packet leaves by itself. */
  private maxPackets: number
  private readonly hops = new Int32Array(RUNS)
  private readonly entries = new Int32Array(RUNS)
  private readonly sizes = new Int32Array(RUNS)
  private readonly avoided = new Int32Array(SLOTS)
  private readonly avoidedAt = new Float64Array(SLOTS)
  private readonly rooms = new Int32Array(SLOTS)
  private nowMs = 0

  /** @param maxPackets  packets a run may have: what the kernel takes, 1 = no runs */
  constructor(out: Entries, maxPackets: number) {
    this.out = out
    this.maxPackets = maxPackets
  }

  /** Whether any runs are made. */
  isOn(): boolean {
    return this.maxPackets > 1
  }

  /** From now on every packet leaves by itself. */
  disable(): void {
    this.maxPackets = 1
  }

  /** Sets the time, once a breath: milliseconds that never go back. */
  tick(nowMs: number): void {
    this.nowMs = nowMs
  }

  /**
   * Makes no runs of long packets to a peer for a while: the kernel said that they do not fit the path.
   * @param room  bytes that do fit, with the encapsulation; 0 = not known
   */
  avoid(hop: number, room: number): void {
    const slot = hop & (SLOTS - 1)
    this.avoided[slot] = hop
    this.avoidedAt[slot] = this.nowMs
    this.rooms[slot] = room
  }

  /** Closes the open runs: nothing joins them any more. */
  clear(): void {
    this.hops.fill(0)
  }

  /**
   * The entry that a packet goes into; a new one is begun if need be, so there must be room.
   * @param hop   next hop, not 0
   * @param name  its name
   * @param len     bytes of the packet with its encapsulation; the caller adds pieces of that length,
   *                two at most
   * @param socket  which of the port's sockets sends it, below MAX_SOCKETS
   * @returns       index of the entry
   */
  place(hop: number, name: number, len: number, socket: number): number {
    const out = this.out
    const slot = (hop * MAX_SOCKETS + socket) & (RUNS - 1)
    if (this.hops[slot] === hop) {
      const entry = this.entries[slot] ?? 0
      const size = this.sizes[slot] ?? 0
      const count = out.packets(entry)
      if (
        len <= size &&
        count < this.maxPackets &&
        out.len(entry) + len <= MAX_RUN_BYTES &&
        out.pieceTotal(entry) + 2 <= out.piecesPerEntry
      ) {
        if (count === 1) out.setSegment(entry, size)
        if (len < size) this.hops[slot] = 0
        return entry
      }
    }
    const entry = out.begin(name, socket)
    this.hops[slot] = this.isOn() && !this.isAvoided(hop, len) ? hop : 0
    this.entries[slot] = entry
    this.sizes[slot] = len
    return entry
  }

  /** Whether a peer gets no runs of packets of so many bytes now. */
  isAvoided(hop: number, len: number): boolean {
    const slot = hop & (SLOTS - 1)
    return (
      this.avoided[slot] === hop &&
      len > (this.rooms[slot] ?? 0) &&
      this.nowMs - (this.avoidedAt[slot] ?? 0) < AVOID_MS
    )
  }
}

/**
 * Takes a run apart: one entry per packet, into `into`, which is cleared first.
 * @param run   index of an entry with a segment size; its packets begin at piece boundaries
 * @param into  entries of at least two pieces, as many as the run has packets
 */
export function splitRun(out: Entries, run: number, into: Entries): void {
  const size = out.segment(run)
  const packets = out.packets(run)
  // Every packet has the same encapsulation, which is not counted.
  const overhead = packets > 0 ? Math.round((out.len(run) - out.bytes(run)) / packets) : 0
  let entry = -1
  let filled = size
  into.clear()
  const first = out.firstPiece(run)
  for (let p = first; p < first + out.pieceTotal(run); p++) {
    if (filled >= size) {
      entry = into.begin(out.name(run), out.socket(run))
      filled = 0
    }
    into.addPiece(entry, out.pieceAt(p), out.pieceLen(p))
    filled += out.pieceLen(p)
  }
  for (let i = 0; i < into.count; i++) into.addPacket(i, into.len(i) - overhead)
}

/**
 * What the tests of real devices share: an arena with a batch, entries and names, as an engine has
 * them, and short forms to look into them.
 */
import { native } from '../native/native.js'
import { createArena } from '../packet/arena.js'
import type { Arena } from '../packet/arena.js'
import { Batch } from '../packet/batch.js'
import { Entries } from '../packet/entries.js'
import { describeFault } from './errno.js'
import { UdpPort, openUdp } from './udp-port.js'
import type { UdpOptions } from './udp-port.js'

/** 127.0.0.1 as address bits. */
export const LOCALHOST = 0x7f000001

export interface Bench {
  readonly arena: Arena
  readonly batch: Batch
  readonly entries: Entries
  /** Room for four destinations. */
  readonly names: Uint8Array
  /** First byte of the arena that belongs to no slot of the batch; 1 MiB follows. */
  readonly free: number
}

/** Sets up a bench over shared memory. */
export function createBench(rows = 128, slot = 2048): Bench {
  const arena = createArena(new SharedArrayBuffer(rows * slot + (1 << 20)))
  return {
    arena,
    batch: new Batch(arena, 0, rows, slot),
    entries: new Entries(512, 8),
    names: new Uint8Array(4 * native.layout.NAME_SIZE),
    free: rows * slot,
  }
}

/** Why this process can have no ring, as a reason for a test to be skipped; false = it can. */
export function whyNoRing(): string | false {
  try {
    native.closeRing(native.openRing())
    return false
  } catch (error) {
    return `no io_uring: ${describeFault(error)}`
  }
}

/** Opens a UDP port, on a free port of 127.0.0.1 unless told otherwise. */
export function openPort(arena: Arena, options: Partial<UdpOptions> = {}, index = 0): UdpPort {
  const all = { family: 4, address: '127.0.0.1', port: 0, ...options } as const
  return new UdpPort(openUdp(all), arena, index)
}

/** A copy of a row's bytes. */
export function payload(batch: Batch, row: number): Buffer {
  const at = batch.at(row)
  return Buffer.from(batch.arena.bytes.slice(at, at + batch.len(row)))
}

/** Something about each row of a batch, row by row. */
export function rows<T>(batch: Batch, get: (row: number) => T): T[] {
  return Array.from({ length: batch.count }, (_, row) => get(row))
}

/** The results of all entries. */
export function results(entries: Entries): number[] {
  return Array.from({ length: entries.count }, (_, i) => entries.result(i))
}

/** Bytes that tell where they are in the datagram and, by `seed`, in which. */
export function pattern(seed: number, len: number): Buffer {
  const bytes = Buffer.alloc(len)
  for (let at = 0; at < len; at++) bytes[at] = (seed * 31 + at * 7 + (at >> 8)) & 255
  return bytes
}

/**
 * Coalescing: 64 packets from the socket on their way to the TUN device. Beside it every packet written
 * by itself, and what one would write first: flows in a Map under a text, payloads copied together.
 * In all figures: fresh heads for the packets, as a receive would bring them; one native call for their
 * sums where they are asked for.
 */
import { native } from '../../dataplane/native/native.js'
import { createCoalescer, PIECES_PER_ENTRY, vnetBytes } from '../../dataplane/offload/coalesce.js'
import { createArena, type Arena } from '../../dataplane/packet/arena.js'
import { Batch } from '../../dataplane/packet/batch.js'
import { Entries } from '../../dataplane/packet/entries.js'
import { HEADROOM } from '../../dataplane/packet/layout.js'
import { Belt, type Load } from '../lib/belt.js'
import * as loads from '../lib/loads.js'
import { CopyingJoiner } from '../lib/copying-joiner.js'
import { runSuite, type Case } from '../lib/suite.js'

const PACKETS = 64
const SLOT = HEADROOM + loads.MTU + 64

/** A batch that is filled anew for every round. */
function createTraffic(load: Load): { readonly arena: Arena; readonly read: () => Batch } {
  const vnet = PACKETS * SLOT
  const arena = createArena(new ArrayBuffer(vnet + vnetBytes(PACKETS)))
  const batch = new Batch(arena, 0, PACKETS, SLOT)
  const belt = new Belt(load)
  const read = (): Batch => {
    belt.read(batch)
    return batch
  }
  return { arena, read }
}

function coalesce(name: string, load: Load, canJoin: boolean): Case {
  const prepare = () => {
    const { arena, read } = createTraffic(load)
    const out = new Entries(PACKETS, PIECES_PER_ENTRY)
    const coalescer = createCoalescer(arena, out, PACKETS * SLOT, true, canJoin, canJoin)
    const sums = new Int32Array(PACKETS)
    return () => {
      const batch = read()
      if (canJoin) native.checksumRows(arena.bytes, batch.columns, PACKETS, PACKETS, 0, sums)
      out.clear()
      for (let i = 0; i < PACKETS; i++) coalescer.add(batch.at(i), batch.len(i), sums[i] ?? 0)
      coalescer.flush()
      return out.count
    }
  }
  return { name, size: PACKETS, prepare }
}

function copyTogether(name: string, load: Load): Case {
  const prepare = () => {
    const { arena, read } = createTraffic(load)
    const joiner = new CopyingJoiner(arena)
    const sums = new Int32Array(PACKETS)
    return () => {
      const batch = read()
      native.checksumRows(arena.bytes, batch.columns, PACKETS, PACKETS, 0, sums)
      for (let i = 0; i < PACKETS; i++) joiner.add(batch.at(i), batch.len(i), sums[i] ?? 0)
      return joiner.flush().length
    }
  }
  return { name, size: PACKETS, prepare }
}

const between: loads.Addresses = () => ({ from: [10, 5, 2, 9], to: [10, 5, 1, 7] })

const LOADS = [
  ['tcp-1-flow', loads.createSegments(between, 1)],
  ['tcp-8-flows', loads.createSegments(between, 8)],
  ['tcp-acks', loads.createAcks(between, 64)],
  ['udp-1-flow', loads.createSmallUdp(between, 1)],
  ['udp-64-flows', loads.createSmallUdp(between, 64)],
] as const

for (const [name, load] of LOADS) {
  await runSuite(`coalesce-${name}`, [
    coalesce('joined where possible', load, true),
    coalesce('each by itself', load, false),
    copyTogether('copied together', load),
  ])
}

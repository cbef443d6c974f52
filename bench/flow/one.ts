/**
 * Measures one case and hands what came out to the process that started this one: every case has a
 * process of its own, as every engine of the daemon has a thread of its own. Beside the engine: its
 * devices without it, and without offloads the plain way of doing the same.
 */
import { widenInlining } from '../../dataplane/inlining.js'
import { createArena } from '../../dataplane/packet/arena.js'
import { Batch } from '../../dataplane/packet/batch.js'
import { Entries } from '../../dataplane/packet/entries.js'
import { HEADROOM, MAX_PACKET } from '../../dataplane/packet/layout.js'
import { Belt, type Load } from '../lib/belt.js'
import { MTU } from '../lib/loads.js'
import type { Results } from '../lib/report.js'
import { measure, type Case } from '../lib/suite.js'
import { CASES, createOutbound, createRoutes } from './cases.js'
import { createHost } from './host.js'
import { NaiveForwarder } from './naive.js'

/** What one process found out. */
export interface Outcome {
  readonly results: Results['results']
  /** Packets of a batch of each result. */
  readonly packets: number
  readonly bytesPerPacket: number
  readonly packetsPerMessage: number
}

/** What is measured at a time, in the packets that one full read brings in. */
const READS = 16

widenInlining()
const flowCase = CASES.find(({ name }) => name === process.argv[2])
if (flowCase === undefined) throw new RangeError('no such case')
const { name, offload } = flowCase
const isPlain = !offload.hasVnet
const routes = createRoutes(flowCase.table)
const toPeer = flowCase.toPeer?.(createOutbound(routes)) ?? null
const toUs = flowCase.toUs?.() ?? null
const packetsPerRead = packetsOf(toPeer) + packetsOf(toUs)
const rowsPerRead = (toPeer?.perRead ?? 0) + (toUs?.perRead ?? 0)

const host = createHost(routes, offload, toPeer, toUs)
const room = isPlain ? MTU : MAX_PACKET
const slot = (HEADROOM + room + 64) & ~63
const arena = createArena(new ArrayBuffer(2 * 64 * slot))
const fromInside = new Batch(arena, 0, 64, slot)
const fromOutside = new Batch(arena, 64 * slot, 64, slot)
const inside = new Belt(toPeer)
const outside = new Belt(toUs)
const naive = new NaiveForwarder(isPlain ? routes : [])
const out = new Entries(64)

function breatheAlone(): number {
  fromInside.rewind()
  fromOutside.rewind()
  return inside.read(fromInside) + outside.receive(fromOutside)
}

let readNaively = 0
function breatheNaively(): number {
  const read = breatheAlone()
  readNaively += read
  naive.forwardOut(fromInside, out)
  outside.send(out)
  out.clear()
  naive.forwardIn(fromOutside, out)
  inside.write(out)
  out.clear()
  return read
}

function createCase(what: string, breathe: () => number, seconds = 0.3): Case {
  return {
    name: what,
    size: READS * packetsPerRead,
    prepare: () => () => {
      let read = 0
      while (read < READS * rowsPerRead) read += breathe()
      return read
    },
    seconds,
  }
}

const cases = [createCase(name, () => host.engine.breath(), 1)]
if (isPlain) cases.push(createCase(`${name}: written plainly`, breatheNaively))
cases.push(createCase(`${name}: devices alone`, breatheAlone))
const { results } = await measure(name, cases)

// Nothing may have been dropped: that would be quick.
const { read, forwarded } = host.counted()
const taken = host.inside.packets + host.outside.packets
if (read !== forwarded || read !== taken) throw new Error(`${read} read, ${taken} taken`)
if (readNaively !== inside.packets + outside.packets) throw new Error('dropped where plain')

const outcome: Outcome = {
  results,
  packets: READS * packetsPerRead,
  bytesPerPacket: host.counted().bytes / read,
  packetsPerMessage: taken / (host.inside.messages + host.outside.messages),
}
process.send?.(outcome)

function packetsOf(load: Load | null): number {
  return (load?.rows.slice(0, load.perRead) ?? []).reduce((sum, { packets }) => sum + packets, 0)
}

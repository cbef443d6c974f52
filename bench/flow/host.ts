/**
 * A host under measurement: the real engine, table and sums between two belts.
 */
import { Counters, COUNTERS_BYTES, EGRESS, INGRESS, READ } from '../../dataplane/counters.js'
import { flannelUdp } from '../../dataplane/encap/flannel-udp.js'
import { createEngineArena, Engine } from '../../dataplane/engine.js'
import { createFib, type Fib } from '../../dataplane/fib/lpm-writer.js'
import { attachFibReader } from '../../dataplane/fib/lpm.js'
import { createHopTable } from '../../dataplane/fib/nexthop.js'
import { HostSet } from '../../dataplane/host-set.js'
import { native } from '../../dataplane/native/native.js'
import type { OffloadOptions } from '../../dataplane/offload/offload.js'
import type { Entries } from '../../dataplane/packet/entries.js'
import { FORWARD } from '../../dataplane/packet/verdict.js'
import { Belt, type Load } from '../lib/belt.js'
import { MTU } from '../lib/loads.js'
import type { Route4 } from '../lib/routes.js'

/** 10.5.1.0/24 is our own subnet, 10.5.2.0/24 the peer's of the smallest table. */
export const SUBNET = 0x0a050100
export const PEER_SUBNET = 0x0a050200
const PEER_ADDRESS = 0xac1e0000
const PORT = 8285

export interface Host {
  readonly inside: Belt
  readonly outside: Belt
  readonly engine: Engine
  /** Packets read and forwarded since the host was made, and the bytes of the latter. */
  counted(): { readonly read: number; readonly forwarded: number; readonly bytes: number }
}

/**
 * @param routes  the table beside our own subnet, hops counted from 1
 * @param toPeer  what comes from the TUN device
 * @param toUs    what comes from the socket
 */
export function createHost(
  routes: readonly Route4[],
  offload: OffloadOptions,
  toPeer: Load | null,
  toUs: Load | null,
): Host {
  const fib = createTable(routes)
  const hosts = new HostSet(1)
  const arena = createEngineArena(MTU, flannelUdp, offload)
  const inside = new Belt(toPeer)
  const outside = new Belt(toUs)
  const counters = new Counters(new SharedArrayBuffer(COUNTERS_BYTES))
  const engine = new Engine({
    arena,
    inside,
    outside,
    icmp: { send: refuse },
    fib: attachFibReader(fib.shared, 0),
    hops: createHopTable(fib.shared),
    encap: flannelUdp,
    hasIpv6: false,
    ingressCheck: { mode: 'leases', hosts: attachFibReader(hosts.shared, 0), exceptions: ANYBODY },
    offload,
    sums: native,
    counters,
    mtu: MTU,
    localAddress: SUBNET,
    now: () => performance.now(),
  })
  return {
    inside,
    outside,
    engine,
    counted: () => ({
      read: counters.gaugeValue(READ + EGRESS) + counters.gaugeValue(READ + INGRESS),
      forwarded: counters.packets(EGRESS, FORWARD) + counters.packets(INGRESS, FORWARD),
      bytes: counters.bytes(EGRESS, FORWARD) + counters.bytes(INGRESS, FORWARD),
    }),
  }
}

function createTable(routes: readonly Route4[]): Fib {
  const fib = createFib({ readers: 1 })
  const hops = new Map<number, number>()
  const hopOf = (hop: number): number => {
    const known = hops.get(hop) ?? fib.hops.addPeer(PEER_ADDRESS + hop, PORT)
    hops.set(hop, known)
    return known
  }
  fib.writer.update(() => {
    for (const { addr, len, hop } of routes) fib.writer.insert4(addr, len, hopOf(hop))
    fib.writer.insert4(SUBNET, 24, fib.hops.addLocal())
  })
  return fib
}

/** The ingress check looks every source up and finds that the sender, who has no address, may use it. */
const ANYBODY = [{ addr: 0, len: 0, from: 0 }]

/** No packet of a load earns an ICMP error. */
function refuse(entries: Entries): void {
  throw new Error(`${entries.count} ICMP errors`)
}

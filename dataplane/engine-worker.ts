/**
 * The engine's thread: opens nothing, decides nothing, breathes.
 *
 * It runs on descriptors that the main thread opened and never returns to the event loop until it
 * is told to stop: it blocks in `wait()` on the TUN, the socket and an eventfd, at most a second. When
 * that second has passed without a packet, the memory of the slots goes back to the kernel.
 * A device that fails ends the thread with an error, which the main thread reports.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { Counters, RING_PACKETS, WAITS } from './counters.js'
import { createEncap } from './encap/choice.js'
import { createEngineArena, Engine } from './engine.js'
import { attachFibReader } from './fib/lpm.js'
import { createHopTable } from './fib/nexthop.js'
import { widenInlining } from './inlining.js'
import { IpipPort } from './io/ipip-port.js'
import { RawPort } from './io/raw-port.js'
import { TunDevice, type RingUse } from './io/tun-device.js'
import { UdpPort } from './io/udp-port.js'
import { isNativeError, native } from './native/native.js'
import type { OffloadName } from './offload/offload.js'
import { STOP, type EngineNews, type EngineSetup } from './engine-setup.js'

const MAX_WAIT_MS = 1000
// What is waited for, by its place.
const INSIDE = 0
const OUTSIDE = 1
const WAKE = 2

widenInlining()

const setup = workerData as EngineSetup
const control = new Int32Array(setup.control)
const counters = new Counters(setup.counters)
const hops = createHopTable(setup.fib)

const encap = createEncap(setup.encap, hops)
const arena = createEngineArena(setup.mtu, encap, setup.offload)

const engine = new Engine({
  arena,
  inside: new TunDevice(setup.tun, arena, openRing()),
  outside:
    setup.encap.kind === 'ipip'
      ? new IpipPort(setup.socket, arena)
      : new UdpPort(setup.socket, arena),
  icmp: new RawPort(setup.rawFd, arena),
  ...(setup.rawFd6 === null || setup.localAddress6 === null
    ? {}
    : { icmp6: { port: new RawPort(setup.rawFd6, arena), source: setup.localAddress6 } }),
  fib: attachFibReader(setup.fib, setup.reader),
  hops,
  encap,
  offload: setup.offload,
  sums: native,
  counters,
  mtu: setup.mtu,
  podMtu: setup.podMtu,
  localAddress: setup.localAddress,
  now: () => performance.now(),
  hasIpv6: setup.hasIpv6,
  ...(setup.encap.kind === 'vxlan' ? { vtep: { ...setup.encap, port: setup.socket.port } } : {}),
  sockets: setup.socket.sendFds?.length ?? 1,
  ingressCheck: { ...setup.ingressCheck, hosts: attachFibReader(setup.hosts, setup.reader) },
  onGivenUp: giveUp,
  onRefused: (refusal) => {
    tell({ kind: 'refused', refusal })
  },
})

/** A ring of this thread's own, if rings are used. */
function openRing(): RingUse | null {
  if (!setup.offload.hasRing) return null
  try {
    return {
      ring: native.openRing(),
      onRead: (packets) => {
        counters.gauge(RING_PACKETS, packets)
      },
      onRefused: (errno) => {
        giveUp('tun-ring', errno)
      },
    }
  } catch (error) {
    if (!isNativeError(error)) throw error
    giveUp('tun-ring', -error.errno)
    return null
  }
}

function giveUp(offload: OffloadName, errno: number): void {
  tell({ kind: 'given-up', offload, errno })
}

function tell(news: EngineNews): void {
  parentPort?.postMessage(news)
}

const fds = Int32Array.of(setup.tun.fd, setup.socket.fd, setup.wakeFd)
const events = new Int32Array(fds.length)
let hasUsedSlots = false
/** Whether the TUN and the socket may have something: both, unless a wait has told. */
let hasInside = true
let hasOutside = true
while (Atomics.load(control, STOP) === 0) {
  if (engine.breath(hasInside, hasOutside) > 0) {
    hasUsedSlots = true
    if (!engine.hasTakenAll) {
      hasInside = true
      hasOutside = true
      continue
    }
  }
  counters.gauge(WAITS, 1)
  const ready = native.wait(fds, events, setup.busyPollUs, MAX_WAIT_MS)
  hasInside = events[INSIDE] !== 0
  hasOutside = events[OUTSIDE] !== 0
  if (ready === 0 && hasUsedSlots) {
    native.discard(arena.bytes, 0, engine.slotBytes)
    hasUsedSlots = false
  }
  if (events[WAKE] !== 0) native.drain(setup.wakeFd)
}

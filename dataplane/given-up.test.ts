/**
 * A running dataplane whose kernel refuses, from one moment to the next, what it took before: the
 * packets arrive all the same, in their order, and the report tells. In a network namespace of this
 * test's own; the file starts itself again inside.
 *
 * The kernel cuts no message of a socket that sends without checksums (udp_send_skb), so setting
 * SO_NO_CHECK on the dataplane's socket makes it refuse runs with EINVAL and take single packets.
 */
import { ip } from './netns-fixture.js'
import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { Dataplane } from './dataplane.js'
import { createBench, openPort, pattern, payload } from './io/device-fixture.js'
import { encodeName, endpoint4 } from './io/endpoint.js'
import type { OffloadState } from './io/offloads.js'
import { native } from './native/native.js'

const PORT = 8285
const FAR = 0x0a050209
const COUNT = 40
const SIZE = 1000
/** Headers of an inner packet: IPv4 and UDP. */
const HEADERS = 28
/** linux/socket.h */
const SO_NO_CHECK = 11

/** The descriptor of this process's socket that is bound to an address and the flannel port. */
function findSocket(address: string): number {
  const fd = readdirSync('/proc/self/fd')
    .map(Number)
    .find((fd) => {
      try {
        const local = native.localAddress(fd)
        return local.address === address && local.port === PORT
      } catch {
        return false
      }
    })
  if (fd === undefined) throw new Error(`no socket at ${address}`)
  return fd
}

t.test('runs that the kernel takes no more', async (t) => {
  ip('link set lo up')
  const lost: OffloadState[] = []
  const dataplane = new Dataplane({
    device: 'hdl%d',
    bindAddress: '127.0.0.1',
    port: PORT,
    onGivenUp: (offload) => lost.push(offload),
  })
  t.teardown(() => dataplane.close())
  ip(`address add 10.5.1.0/32 dev ${dataplane.device}`)
  ip(`link set ${dataplane.device} mtu 1472 up`)
  ip(`route add 10.5.0.0/16 dev ${dataplane.device}`)
  dataplane.addLocal({ addr: 0x0a050100, len: 24 })
  dataplane.setRoute({ addr: 0x0a050200, len: 24 }, { address: '127.0.0.2', port: PORT })
  dataplane.start({ ipv4: '10.5.1.0', ipv6: null }, 1472, (error) => {
    t.fail(error.message)
  })
  const runs = (): { state: string; since: string | null; counters: Record<string, number> } => {
    const found = dataplane.report().offloads.find(({ name }) => name === 'udp-segment')
    return found ?? { state: 'missing', since: null, counters: {} }
  }
  if (runs().state !== 'on') {
    t.pass('', { skip: 'this kernel has no UDP_SEGMENT' })
    return
  }

  const { arena, batch, entries, names, free } = createBench(2 * COUNT)
  const peer = openPort(arena, { address: '127.0.0.2', port: PORT })
  const pod = openPort(arena, { address: '10.5.1.0' })
  encodeName(endpoint4(FAR, 4242), names, 0)
  /** Sends a super-packet, and returns how many of its packets the peer got, in their order. */
  const send = async (seed: number): Promise<number> => {
    const bytes = pattern(seed, COUNT * SIZE)
    arena.bytes.set(bytes, free)
    entries.clear()
    entries.add(free, bytes.length, 0, 0)
    entries.setSegment(0, SIZE)
    pod.send(entries, names)
    t.equal(entries.result(0), 0)
    let right = 0
    for (let tries = 0; right < COUNT && tries < 500; tries++) {
      await sleep(10)
      batch.rewind()
      peer.receive(batch)
      for (let row = 0; row < batch.count; row++) {
        const inner = payload(batch, row).subarray(HEADERS)
        if (inner.equals(bytes.subarray(right * SIZE, (right + 1) * SIZE))) right++
      }
    }
    return right
  }

  t.equal(await send(1), COUNT)
  t.match(runs(), { state: 'on', since: null, counters: { runs_resent: 0 } })
  const { runs_sent: before = 0 } = runs().counters
  t.ok(before >= 1, `${before} runs`)

  native.setOption(findSocket('127.0.0.1'), native.constants.SOL_SOCKET, SO_NO_CHECK, 1)
  t.equal(await send(2), COUNT, 'the same packets, in their order')
  for (let tries = 0; lost.length === 0 && tries < 500; tries++) await sleep(10)
  t.match(lost, [{ name: 'udp-segment', state: 'given-up', detail: 'EINVAL' }])
  t.match(runs(), { state: 'given-up', counters: { runs_avoided: 0 } })
  const { runs_resent: resent = 0 } = runs().counters
  t.ok(resent >= 1, `${resent} runs went again`)
  t.ok(Math.abs(Date.parse(runs().since ?? '') - Date.now()) < 60_000)

  t.equal(await send(3), COUNT)
  t.match(runs().counters, { runs_sent: before, runs_resent: resent }, 'no more are tried')
  t.equal(lost.length, 1)
  t.match(dataplane.report().counters.egress.verdicts['forward'], { packets: 3 * COUNT })
  pod.close()
  peer.close()
})

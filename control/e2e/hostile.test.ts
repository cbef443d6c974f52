/**
 * @serial Hostile datagrams at the daemon's port: each gets its verdict, nothing wrong is delivered,
 * all are accounted for; and under a flood the daemon stays small, answers, learns routes and stops.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Capture } from '../lab/capture.js'
import type { Host, Pod } from '../lab/host.js'
import type { ManagedProcess } from '../lab/process.js'
import {
  datagramsRead,
  Flood,
  footprint,
  LARGEST,
  PORT,
  relay,
  socketDrops,
  UNFRAGMENTED,
} from './attack.js'
import { delivered, type HostileDatagram, hostileDatagrams } from './hostile-packets.js'
import {
  assertAccounted,
  counted,
  createOverlay,
  type Overlay,
  overlayAddress,
  skip,
  sumOfVerdicts,
  tally,
  until,
} from './overlay.js'

t.setTimeout(120_000)

/** Every packet captured behind the daemon must be one that it had to deliver, as it had to be. */
async function checkDelivered(t: Test, capture: Capture, all: readonly HostileDatagram[]) {
  const { packets } = await capture.stop()
  const wanted = new Set(
    all.filter((d) => d.verdict === 'forward').map((d) => delivered(d.bytes).toString('hex')),
  )
  const seen = packets.map(({ bytes }) => Buffer.from(bytes).toString('hex'))
  const strange = seen.filter((hex) => !wanted.has(hex))
  t.same(strange.slice(0, 3), [], `${strange.length} of ${seen.length} packets are none of ours`)
  const missing = all.filter(
    (d) => d.verdict === 'forward' && !seen.includes(delivered(d.bytes).toString('hex')),
  )
  return { count: seen.length, missing: missing.map((d) => d.name) }
}

t.test('hostile datagrams', { skip }, async (t) => {
  // h1 is attacked; h2 is a peer; h3 and h4 have no daemon: h4 is a stranger, h3 will get a lease.
  const network = { SubnetMin: '10.5.1.0', SubnetMax: '10.5.99.0' }
  const overlay = await createOverlay(t, { hosts: 4, daemons: 2, store: 'file', network })
  const [h1, h2, h3, h4] = [1, 2, 3, 4].map((n) => overlay.host(n)) as [Host, Host, Host, Host]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const daemon = overlay.daemon(h1)
  const all = hostileDatagrams(p1.address, p2.address, h1.address)
  const ofStranger = all.map((d) => ({ ...d, verdict: asStranger(d.verdict) }))
  // The answers of the pod and of the host's kernel go the other way.
  const arriving = `not ip6 and not src net ${await overlayAddress(h1)}/24`

  await t.test('each one gets its verdict, from a peer and from a stranger (F40)', async (t) => {
    for (const [from, list] of [
      [h2, all],
      [h4, ofStranger],
    ] as const) {
      const send = await relay(from, h1)
      const capture = await h1.capture('flannel0', arriving)
      for (const { name, bytes, verdict } of list) {
        const before = tally(await overlay.status(h1))
        await send(bytes)
        const moved = await ingressMoves(overlay, h1, before)
        t.same(moved, { [`ingress.${verdict}`]: 1 }, `${from.name}: ${name}: ${verdict}`)
      }
      const good = list.filter((d) => d.verdict === 'forward').length
      await capture.waitForPackets(good)
      t.same(await checkDelivered(t, capture, list), { count: good, missing: [] })
    }
  })

  await t.test('at full rate: everything sent is read or a counted overflow', async (t) => {
    const drops = await socketDrops(h1)
    const read = await datagramsRead(h1)
    const before = await overlay.settled(h1)
    const floods = await Promise.all(
      [h2, h4].map((from) => Flood.start(from, h1, p1, p2.address, UNFRAGMENTED, 3)),
    )
    // For a moment the daemon does not read at all, so that its socket does overflow.
    await sleep(500)
    process.kill(daemon.pid, 'SIGSTOP')
    await sleep(800)
    process.kill(daemon.pid, 'SIGCONT')
    const reports = await Promise.all(floods.map((flood) => flood.report()))
    const after = await overlay.settled(h1)
    const moved = counted(before, after)
    const sent = reports.reduce((sum, report) => sum + report.sent, 0)
    // The stranger's are refused.
    const valid = reports[0]?.valid ?? 0
    const overflow = (await socketDrops(h1)) - drops
    t.comment(`sent ${sent}, read ${moved['ingress.read'] ?? 0}, overflow ${overflow}`)
    t.ok(sent > 10_000, `${sent} sent`)
    t.ok(overflow > 0, `${overflow} had no room`)
    t.equal(
      moved['ingress.read'],
      (await datagramsRead(h1)) - read,
      'all that the kernel handed out',
    )
    t.equal((moved['ingress.read'] ?? 0) + overflow, sent, 'read + overflow = sent')
    t.equal(moved['gauge.socket_overflow'], overflow, 'the daemon says so, too')
    const arrived = (moved['ingress.forward'] ?? 0) + (moved['ingress.drop_tun_busy'] ?? 0)
    t.ok(arrived <= valid && arrived >= valid - overflow, `${arrived} of ${valid} valid ones`)
    assertAccounted(t, 'h1', after)
  })

  await t.test(
    '0 to 65507 bytes at full rate: small, alive, answering, learning (F40, F42)',
    async (t) => {
      const before = footprint(daemon.pid)
      const capture = await h1.capture('flannel0', arriving)
      const floods = await Promise.all([
        Flood.start(h2, h1, p1, p2.address, LARGEST, 6),
        Flood.start(h4, h1, p1, p2.address, UNFRAGMENTED, 6),
      ])
      const answers = await statusTimes(overlay, h1, 15)
      const median = [...answers].sort((a, b) => a - b)[7] ?? Infinity
      t.comment(`status answers in ${answers.map((ms) => ms.toFixed(0)).join(' ')} ms`)
      t.ok(median < 250, `half of the answers within ${median.toFixed(0)} ms`)
      t.ok(Math.max(...answers) < 1000)

      await checkRouteChange(t, overlay, p1, h3)
      t.ok(
        floods.every((flood) => flood.running),
        'all of this while being flooded',
      )
      for (const flood of floods) t.ok((await flood.report()).sent > 1000)

      const counts = await overlay.settled(h1)
      assertAccounted(t, 'h1', counts)
      await checkDelivered(t, capture, all)
      t.ok(daemon.running)
      await until('no more descriptors than before', 5000, () => {
        return footprint(daemon.pid).descriptors <= before.descriptors
      })
      const after = footprint(daemon.pid)
      t.comment(`memory ${before.memory.toFixed(0)} → ${after.memory.toFixed(0)} MB`)
      t.ok(after.memory < before.memory + 40, `${after.memory.toFixed(0)} MB`)
      t.equal(
        (await p2.run('ping', ['-c3', '-i0.1', '-W2', p1.address])).code,
        0,
        'pods still talk',
      )
    },
  )

  await t.test('SIGTERM under a flood: exit 0 < 5 s', async (t) => {
    const flood = await Flood.start(h4, h1, p1, p2.address, UNFRAGMENTED, 6)
    const start = Date.now()
    daemon.kill('SIGTERM')
    t.same(await daemon.exited, { code: 0, signal: null })
    const took = Date.now() - start
    t.ok(flood.running, 'while being flooded')
    t.comment(
      `ended after ${took} ms, ${loggedStop(daemon).toFixed(0)} ms from signal to last line`,
    )
    t.ok(took < 5000, `${took} ms`)
    await flood.report()
  })
})

/** The verdict about a datagram whose sender holds no lease. */
function asStranger(verdict: string): string {
  return ['forward', 'drop_ttl'].includes(verdict) ? 'drop_source_unknown' : verdict
}

/** Verdicts of arriving packets since a reading, as soon as there is one. */
async function ingressMoves(overlay: Overlay, host: Host, before: ReturnType<typeof tally>) {
  let now = before
  await until(`${host.name} has read one more datagram`, 2000, async () => {
    now = tally(await overlay.status(host))
    return sumOfVerdicts(now, 'ingress') > sumOfVerdicts(before, 'ingress')
  })
  const moved = Object.entries(counted(before, now))
  return Object.fromEntries(
    moved.filter(([name]) => name.startsWith('ingress.') && name !== 'ingress.read'),
  )
}

/** How long each of a few status requests takes, ms. */
async function statusTimes(overlay: Overlay, host: Host, count: number): Promise<number[]> {
  const times: number[] = []
  for (let i = 0; i < count; i++) {
    const start = performance.now()
    await overlay.status(host)
    times.push(performance.now() - start)
    await sleep(50)
  }
  return times
}

/** A lease that appears is routed, one that goes is forgotten, each < 1 s (F42). */
async function checkRouteChange(t: Test, overlay: Overlay, pod: Pod, host: Host): Promise<void> {
  const key = join(overlay.directory, 'subnets', '10.5.200.0-24')
  const capture = await host.capture('eth0', `udp port ${PORT}`)
  const ping = await pod.spawn('ping', ['-i0.02', '10.5.200.9'])
  mkdirSync(join(overlay.directory, 'subnets'), { recursive: true })
  const written = Date.now()
  writeFileSync(key, `{"PublicIP":"${host.address}","PublicIPv6":null}`)
  const [first] = await capture.waitForPackets(1, 5000)
  const added = (first?.timeUs ?? Infinity) / 1000 - written
  t.ok(added < 1000, `the new peer gets packets after ${added.toFixed(0)} ms`)
  await ping.stop()
  await capture.stop()
  const removed = performance.now()
  rmSync(key)
  const h1 = overlay.host(1)
  await until('the route is gone', 5000, async () => (await overlay.status(h1)).routes === 1)
  const took = performance.now() - removed
  t.ok(took < 1000, `the route is gone after ${took.toFixed(0)} ms`)
}

/** Milliseconds from the line about the signal to the last line of a log. */
function loggedStop(daemon: ManagedProcess): number {
  const at = (pattern: RegExp): number => {
    const [, h = 0, m = 0, s = 0] = pattern.exec(daemon.stderr()) ?? []
    return (Number(h) * 60 + Number(m)) * 60 + Number(s)
  }
  const clock = String.raw`^I\d{4} (\d+):(\d+):([\d.]+) .*`
  const stopped = at(new RegExp(`${clock}Exiting cleanly`, 'm'))
  return (stopped - at(new RegExp(`${clock}shutdownHandler`, 'm'))) * 1000
}

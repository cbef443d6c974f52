/**
 * Underlays with large and small MTUs, and one whose MTU changes while packets flow: what arrives
 * is what was sent, and sends of several packets are given up only for the peer whose path became
 * too narrow for them.
 */
import t from 'tap'
import { tcpTransfer, udpTransfer } from '../lab/transfers.js'
import { assertAccounted, createOverlay, skip, type Overlay } from './overlay.js'

t.setTimeout(120_000)

const MB = 1e6
const OVERHEAD = 28

async function setUnderlayMtu(overlay: Overlay, mtu: number): Promise<void> {
  for (const host of overlay.lab.hosts) {
    await host.ip(`link set eth0 mtu ${String(mtu)}`)
    await overlay.lab.switch.ip(`link set ${host.name} mtu ${String(mtu)}`)
  }
}

for (const mtu of [9000, 576]) {
  t.test(`an underlay with an MTU of ${String(mtu)}`, { skip }, async (t) => {
    const overlay = await createOverlay(t, { hosts: 2, store: 'file', mtu })
    const [h1, h2] = [overlay.host(1), overlay.host(2)]
    const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    t.equal((await h1.subnetEnv()).mtu, mtu - OVERHEAD)
    const { device } = await overlay.status(h1)
    t.equal(device?.mtu, mtu - OVERHEAD)
    for (const [from, to] of [
      [p1, p2],
      [p2, p1],
    ] as const) {
      t.ok((await tcpTransfer(from, to, to.address, { bytes: 20 * MB })).intact)
    }
    const fits = { count: 1000, size: mtu - 2 * OVERHEAD, perSecond: 2000 }
    t.match((await udpTransfer(p1, p2, p2.address, fits)).received, { received: 1000, damaged: 0 })
    const over = { count: 500, size: 3 * mtu, perSecond: 500 }
    t.match((await udpTransfer(p2, p1, p1.address, over)).received, { received: 500, damaged: 0 })
    for (const host of [h1, h2]) {
      const counts = await overlay.settled(host)
      assertAccounted(t, host.name, counts)
      t.equal(counts.get('gauge.runs_lost'), 0)
      t.equal(counts.get('gauge.joins_lost'), 0)
    }
  })
}

t.test('the underlay’s MTU shrinks and grows while packets flow', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const running = [
    tcpTransfer(p1, p2, p2.address, { bytes: 300 * MB }),
    tcpTransfer(p2, p1, p1.address, { bytes: 300 * MB }),
    udpTransfer(p1, p2, p2.address, { count: 6000, size: 1400, perSecond: 3000 }),
  ] as const
  for (const mtu of [1300, 1500, 1000, 1500]) {
    await setUnderlayMtu(overlay, mtu)
    await new Promise((resolve) => setTimeout(resolve, 300))
  }
  const [there, back, datagrams] = await Promise.all(running)
  t.ok(there.intact)
  t.ok(back.intact)
  t.match(datagrams.received, { damaged: 0, duplicates: 0, reordered: 0 })
  t.ok(datagrams.received.received > 5000, `${String(datagrams.received.received)} of 6000 arrived`)
  for (const host of [h1, h2]) {
    const counts = await overlay.settled(host)
    assertAccounted(t, host.name, counts)
    t.equal(counts.get('gauge.runs_lost'), 0, 'runs are not given up for all peers')
  }
  const after = await tcpTransfer(p1, p2, p2.address, { bytes: 20 * MB })
  t.ok(after.intact, 'and afterwards as before')
})

/**
 * @parallel A daemon that is started again, in order or after it was killed: the same subnet, and a TCP connection
 * between pods that was open before goes on, with every byte.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { tcpTransfer } from '../lab/transfers.js'
import { createOverlay, skip } from './overlay.js'

t.setTimeout(240_000)

const BYTES = 300e6

for (const [backend, more] of [
  ['udp', {}],
  ['vxlan', {}],
  ['vxlan', { Dataplane: 'kernel' }],
  ['host-gw', {}],
  ['ipip', {}],
] as const) {
  t.test(`${backend} ${JSON.stringify(more)}`, { skip }, async (t) => {
    const overlay = await createOverlay(t, {
      hosts: 2,
      store: 'file',
      backend: { Type: backend, ...more },
    })
    const [h1, h2] = [overlay.host(1), overlay.host(2)]
    const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    const { subnet } = (await overlay.status(h2)).lease
    for (const [how, signal] of [
      ['in order', 'SIGTERM'],
      ['killed', 'SIGKILL'],
    ] as const) {
      await t.test(how, async (t) => {
        const transfer = tcpTransfer(p1, p2, p2.address, { bytes: BYTES })
        const ping = p1.run('ping', ['-c250', '-i0.01', '-W2', p2.address])
        await sleep(300)
        const daemon = overlay.daemon(h2)
        daemon.kill(signal)
        await daemon.exited
        await overlay.start(h2)
        t.equal((await overlay.ready(h2, 1)).lease.subnet, subnet)
        const { intact, received } = await transfer
        t.ok(intact && received.bytes === BYTES, 'every byte arrived')
        const [, answered = '0'] = /(\d+) received/.exec((await ping).stdout) ?? []
        t.comment(`${String(250 - Number(answered))} of 250 pings, one each 10 ms, lost`)
        if (backend === 'host-gw')
          t.equal(answered, '250', 'nothing is lost where the kernel carries')
      })
    }
  })
}

for (const [backend, device] of [
  ['udp', 'flannel0'],
  ['vxlan', 'flannel.1'],
] as const) {
  t.test(`${backend} --keep-device: nothing is unreachable meanwhile`, { skip }, async (t) => {
    const overlay = await createOverlay(t, {
      hosts: 2,
      daemons: 1,
      store: 'file',
      backend: { Type: backend },
    })
    const [h1, h2] = [overlay.host(1), overlay.host(2)]
    const keep = ['--keep-device']
    await overlay.start(h2, keep)
    await overlay.ready(h2, 1)
    const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    const state = async () => (await h2.run('ip', ['-o', 'link', 'show', device])).stdout
    const [number] = (await state()).split(':')
    for (const [how, signal] of [
      ['in order', 'SIGTERM'],
      ['killed', 'SIGKILL'],
    ] as const) {
      await t.test(how, async (t) => {
        const ping = p2.run('ping', ['-c150', '-i0.01', '-W1', p1.address])
        await sleep(200)
        const daemon = overlay.daemon(h2)
        daemon.kill(signal)
        await daemon.exited
        t.match(await state(), /UP/, 'the device is there')
        t.match((await h2.run('ip', ['route'])).stdout, `10.5.0.0/16 dev ${device}`)
        await overlay.start(h2, keep)
        await overlay.ready(h2, 1)
        const { stdout } = await ping
        t.comment(/\d+ packets.*/.exec(stdout)?.[0])
        t.notMatch(stdout, /[Uu]nreachable/, 'nobody was told that the network is gone')
        t.equal((await state()).split(':')[0], number, 'the same device')
        t.match(overlay.daemon(h2).stderr(), `going on with ${device}`)
      })
    }
    await t.test('until it is no longer wanted', async (t) => {
      await overlay.daemon(h2).stop()
      await overlay.start(h2, ['--queues=2'])
      await overlay.ready(h2, 1)
      t.match(overlay.daemon(h2).stderr(), `${device}, which was kept, has another kind of queues`)
      const { intact } = await tcpTransfer(p1, p2, p2.address, { bytes: 5e6 })
      t.ok(intact)
      await overlay.daemon(h2).stop()
      t.equal(await state(), '', 'and then it goes')
    })
  })
}

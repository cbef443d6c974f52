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

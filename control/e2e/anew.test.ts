/**
 * @serial A daemon that starts anew on SIGUSR2: the same process, the same devices, no packet lost; and what keeps it
 * from doing so.
 */
import { rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { HEDDLED, type Host, type Pod } from '../lab/host.js'
import { tcpTransfer } from '../lab/transfers.js'
import { assertAccounted, createOverlay, skip, until, type Overlay } from './overlay.js'

t.setTimeout(180_000)

const SOON_MS = 20_000

/** How often a host's daemon has been ready. */
function readyCount(overlay: Overlay, host: Host): number {
  return overlay.daemon(host).stderr().split('flannel is ready').length - 1
}

async function startAnew(overlay: Overlay, host: Host): Promise<void> {
  const before = readyCount(overlay, host)
  overlay.daemon(host).kill('SIGUSR2')
  await until('it is ready again', SOON_MS, () => readyCount(overlay, host) > before)
}

/** Pings each 10 ms while something happens. @returns how many were answered, of how many */
async function pingDuring(
  t: Test,
  [from, to]: readonly [Pod, Pod],
  work: () => Promise<void>,
): Promise<number[]> {
  const ping = from.run('ping', ['-c200', '-i0.01', '-W2', to.address])
  await sleep(300)
  await work()
  const { stdout } = await ping
  t.comment(`the longest took ${/([\d.]+)\/[\d.]+ ms/.exec(stdout)?.[1] ?? '?'} ms`)
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(stdout) ?? []
  return [Number(received), Number(sent)]
}

for (const [backend, device, args] of [
  [{ Type: 'udp' }, 'flannel0', []],
  [{ Type: 'udp' }, 'flannel0', ['--queues=2', '--keep-device']],
  [{ Type: 'vxlan' }, 'flannel.1', []],
  [{ Type: 'ipip' }, 'flannel.ipip', []],
  [{ Type: 'vxlan', Dataplane: 'kernel' }, 'flannel.1', []],
] as const) {
  t.test(`${JSON.stringify(backend)} ${args.join(' ')}`, { skip }, async (t) => {
    const overlay = await createOverlay(t, { hosts: 2, daemons: 1, store: 'file', backend })
    const [h1, h2] = [overlay.host(1), overlay.host(2)]
    await overlay.start(h2, args)
    const { lease, startedAt } = await overlay.ready(h2, 1)
    const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    const link = async () => (await h2.run('ip', ['-o', 'link', 'show', 'dev', device])).stdout
    const before = (await link()).split(':')[0]

    await t.test('no ping is lost', async (t) => {
      const [received, sent] = await pingDuring(t, [p1, p2], () => startAnew(overlay, h2))
      t.equal(received, sent)
      t.equal(sent, 200)
      const status = await overlay.ready(h2, 1)
      t.equal(status.lease.subnet, lease.subnet)
      t.not(status.startedAt, startedAt, 'it is another program')
      const { pid, running } = overlay.daemon(h2)
      t.ok(running, 'in the same process')
      const { stdout } = await h2.run('ps', ['-o', 'stat=', '--ppid', String(pid)])
      t.notMatch(stdout, 'Z', 'which has reaped its children')
      t.equal((await link()).split(':')[0], before, 'and the same device')
      if (backend.Type !== 'vxlan' || !('Dataplane' in backend))
        t.match(overlay.daemon(h2).stderr(), `going on with ${device}, which is open`)
    })
    await t.test('no TCP connection either, nor a byte of it', async (t) => {
      for (const [from, to] of [
        [p1, p2],
        [p2, p1],
      ] as const) {
        const transfer = tcpTransfer(from, to, to.address, { bytes: 200e6 })
        await sleep(200)
        await startAnew(overlay, h2)
        const { intact, received } = await transfer
        t.ok(intact && received.bytes === 200e6)
      }
    })
    for (const host of [h1, h2]) assertAccounted(t, host.name, await overlay.settled(host))
    await t.test('SIGTERM still ends it, and what it leaves is as ever', async (t) => {
      t.same(await overlay.daemon(h2).stop(), { code: 0, signal: null })
      const stays = backend.Type === 'vxlan' && 'Dataplane' in backend
      t.equal((await link()) !== '', stays || args.some((arg) => arg === '--keep-device'))
    })
  })
}

t.test('with another configuration the devices are made anew', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  await overlay.configure({ Network: '10.5.0.0/16', Backend: { Type: 'udp', Port: 8300 } })
  for (const host of [h1, h2]) await startAnew(overlay, host)
  t.equal((await overlay.ready(h2, 1)).backend.port, 8300)
  const { stdout } = await h2.run('ss', ['-lun'])
  t.match(stdout, ':8300')
  t.notMatch(stdout, ':8285', 'what was left open is closed')
  const { intact } = await tcpTransfer(p1, p2, p2.address, { bytes: 5e6 })
  t.ok(intact)
})

t.test('what would not start is not started', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, daemons: 1, store: 'etcd' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  // As a package's program is: a link, which an upgrade may change.
  const program = join(h2.dir, 'heddled')
  symlinkSync(HEDDLED, program)
  const flags = ['--iface=eth0', `--subnet-file=${h2.subnetFile}`]
  const endpoints = `--etcd-endpoints=${overlay.lab.etcd.endpoint}`
  const daemon = await h2.spawn(process.execPath, [program, endpoints, ...flags], {
    name: 'heddled',
  })
  overlay.daemons.set(h2, daemon)
  await overlay.ready(h2, 1)
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]

  await t.test('a program that is broken', async (t) => {
    rmSync(program)
    writeFileSync(program, '#!/usr/bin/env node\nprocess.exit(3)\n')
    const [received, sent] = await pingDuring(t, [p1, p2], async () => {
      daemon.kill('SIGUSR2')
      await daemon.waitFor(/SIGUSR2: not starting anew: .*--version/)
    })
    t.equal(received, sent)
  })
  await t.test('while the store is away', async (t) => {
    rmSync(program)
    symlinkSync(HEDDLED, program)
    await overlay.lab.etcd.stop()
    await daemon.waitFor(/store not reachable/)
    const [received, sent] = await pingDuring(t, [p1, p2], async () => {
      daemon.kill('SIGUSR2')
      await daemon.waitFor(/SIGUSR2: not starting anew: the store is not reachable/)
    })
    t.equal(received, sent)
    await overlay.lab.etcd.start()
    await daemon.waitFor(/store reachable again/)
  })
  await t.test('and then it does', async (t) => {
    const [received, sent] = await pingDuring(t, [p1, p2], () => startAnew(overlay, h2))
    t.equal(received, sent)
  })
})

/**
 * @serial `heddle reload`: a daemon starts anew in the same process, with the same devices, and no packet is lost; and what
 * keeps it from doing so.
 */
import { rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { HEDDLED, type Host, type Pod } from '../lab/host.js'
import type { ManagedProcess } from '../lab/process.js'
import { tcpTransfer } from '../lab/transfers.js'
import { assertAccounted, createOverlay, skip, until } from './overlay.js'

t.setTimeout(400_000)

const SOON_MS = 20_000

const TOOL = fileURLToPath(new URL('../cli/heddle.js', import.meta.url))

function reload(host: Host) {
  const args = [TOOL, 'reload', `--subnet-file=${host.subnetFile}`]
  return host.run(process.execPath, args, { timeoutMs: 60_000 })
}

/** Returns once the daemon has said that it starts anew. */
async function beginReload(daemon: ManagedProcess, host: Host) {
  const said = daemon.stderr().length
  const reloading = reload(host)
  await until('it has begun', SOON_MS, () => {
    return daemon.stderr().slice(said).includes('starting anew')
  })
  return { reloading }
}

async function startAnew(host: Host): Promise<void> {
  const { code, stdout, stderr } = await reload(host)
  if (code !== 0) throw new Error(`heddle reload ended with ${String(code)}: ${stdout}${stderr}`)
}

/** Numbers of the pings that were answered so far, and the highest. */
function answersTo(ping: ManagedProcess): { answered: Set<number>; last: number } {
  const numbers = ping.stdout().matchAll(/icmp_seq=(\d+) ttl/g)
  const answered = new Set([...numbers].map(([, n]) => Number(n)))
  return { answered, last: Math.max(0, ...answered) }
}

/**
 * Pings every 10 ms while something is done and for a moment longer. ping(8) itself would not wait for what is
 * answered late: what counts is that no answer is missing before the last one.
 * @returns answers that are missing
 */
async function pingDuring(
  t: Test,
  [from, to]: readonly [Pod, Pod],
  work: () => Promise<void>,
): Promise<number> {
  const ping = await from.spawn('ping', ['-i0.01', to.address])
  await sleep(300)
  await work()
  const before = answersTo(ping).last
  await until('pings are answered', SOON_MS, () => answersTo(ping).last > before)
  await sleep(500)
  ping.kill('SIGINT')
  await ping.exited
  const text = ping.stdout()
  const [, sent] = /(\d+) packets transmitted/.exec(text) ?? []
  t.comment(`the longest took ${/([\d.]+)\/[\d.]+ ms/.exec(text)?.[1] ?? '?'} ms`)
  const { answered, last } = answersTo(ping)
  t.ok(last > Number(sent) - 20, `${String(sent)} were sent, number ${String(last)} was answered`)
  return last - answered.size
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
      const missing = await pingDuring(t, [p1, p2], () => startAnew(h2))
      t.equal(missing, 0)
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
        await startAnew(h2)
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

t.test('with another configuration', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const routes = async () => (await h2.run('ip', ['route', 'show', 'proto', 'boot'])).stdout
  const change = async (config: object): Promise<void> => {
    await overlay.configure(config)
    for (const host of [h1, h2]) await startAnew(host)
  }

  await t.test('the devices are made anew', async (t) => {
    const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    await overlay.configure({ Network: '10.5.0.0/16', Backend: { Type: 'udp', Port: 8300 } })
    for (const host of [h1, h2]) await startAnew(host)
    t.equal((await overlay.ready(h2, 1)).backend.port, 8300)
    const { stdout } = await h2.run('ss', ['-lun'])
    t.match(stdout, ':8300')
    t.notMatch(stdout, ':8285', 'what was left open is closed')
    const { intact } = await tcpTransfer(p1, p2, p2.address, { bytes: 5e6 })
    t.ok(intact)
  })
  await t.test('another network: nothing of the old one stays', async (t) => {
    await change({ Network: '10.6.0.0/16', Backend: { Type: 'vxlan' } })
    t.match((await h2.run('ip', ['route'])).stdout, '10.6.0.0/16 dev flannel.1')
    t.notMatch(await routes(), '10.5.0.0/16')
  })
  await t.test('the kernel’s device in place of ours of the same name', async (t) => {
    await change({ Network: '10.6.0.0/16', Backend: { Type: 'vxlan', Dataplane: 'kernel' } })
    t.match((await h2.run('ip', ['-d', 'link', 'show', 'flannel.1'])).stdout, 'vxlan id 1')
    await change({ Network: '10.6.0.0/16', Backend: { Type: 'vxlan' } })
    t.match((await h2.run('ip', ['-d', 'link', 'show', 'flannel.1'])).stdout, 'tun type tun')
  })
  await t.test('one that is no configuration is refused', async (t) => {
    writeFileSync(join(overlay.directory, 'config'), '{"Network":"10.6.0.0"}')
    const { code, stderr } = await reload(h2)
    t.equal(code, 1)
    t.match(stderr, /^heddle reload: .*10\.6\.0\.0/)
    t.equal((await overlay.status(h2)).state, 'ready')
  })
})

t.test('disturbed', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, daemons: 1, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  await overlay.start(h2, ['--healthz-port=8081'])
  await overlay.ready(h2, 1)
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]

  await t.test('by a connection to the health port that stays', async (t) => {
    const idle = await h2.spawn('socat', ['-u', 'TCP:127.0.0.1:8081', 'STDOUT'])
    const missing = await pingDuring(t, [p1, p2], () => startAnew(h2))
    t.equal(missing, 0)
    await idle.stop()
  })
  await t.test('by others who ask for the same', async (t) => {
    const done = await Promise.all([1, 2, 3, 4, 5].map(() => reload(h2)))
    t.comment(done.map(({ stdout, stderr }) => stdout + stderr).join(''))
    t.ok(done.some(({ code }) => code === 0))
    await overlay.ready(h2, 1)
    await startAnew(h2)
  })
  await t.test('by a device that goes meanwhile', async (t) => {
    const daemon = overlay.daemon(h2)
    const { reloading } = await beginReload(daemon, h2)
    await h2.ip('link delete flannel0')
    t.equal((await reloading).code, 0)
    const { intact } = await tcpTransfer(p1, p2, p2.address, { bytes: 5e6 })
    t.ok(intact)
  })
  await t.test('by SIGTERM', async (t) => {
    const daemon = overlay.daemon(h2)
    const { reloading } = await beginReload(daemon, h2)
    const { code, signal } = await daemon.stop(10_000)
    t.ok(code === 0 || signal === 'SIGTERM', 'however far it has got')
    t.notOk((await h2.run('ip', ['-o', 'link'])).stdout.includes('flannel0'))
    t.match(await reloading, {
      code: 1,
      stderr: /the daemon, pid \d+, has ended|no daemon answers/,
    })
  })
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
    const missing = await pingDuring(t, [p1, p2], async () => {
      t.match(await reload(h2), { code: 1, stderr: /^heddle reload: .*--version/ })
    })
    t.equal(missing, 0)
  })
  await t.test('while the store is away', async (t) => {
    rmSync(program)
    symlinkSync(HEDDLED, program)
    await overlay.lab.etcd.stop()
    await daemon.waitFor(/store not reachable/)
    const missing = await pingDuring(t, [p1, p2], async () => {
      t.match(await reload(h2), { code: 1, stderr: /^heddle reload: the store is not reachable/ })
    })
    t.equal(missing, 0)
    await overlay.lab.etcd.start()
    await daemon.waitFor(/store reachable again/)
  })
  await t.test('and then it does', async (t) => {
    const missing = await pingDuring(t, [p1, p2], () => startAnew(h2))
    t.equal(missing, 0)
  })
})

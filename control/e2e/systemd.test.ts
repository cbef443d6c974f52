/**
 * @parallel The systemd unit in docs: what systemd itself says of it, and the daemon with no more privileges than it
 * grants, told to a service manager's socket from ready to stop.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { HEDDLED } from '../lab/host.js'
import { tcpTransfer } from '../lab/transfers.js'
import { createOverlay, skip, until } from './overlay.js'

t.setTimeout(90_000)

function findPackage(from: string): string {
  return existsSync(join(from, 'package.json')) ? from : findPackage(dirname(from))
}

const UNIT = readFileSync(
  join(findPackage(dirname(fileURLToPath(import.meta.url))), 'docs/heddled.service'),
  'utf8',
)
const CAPABILITIES = (/^CapabilityBoundingSet=(.*)$/m.exec(UNIT)?.[1] ?? '').split(' ')

/** Source: linux/capability.h */
const BIT: Readonly<Record<string, number>> = { CAP_NET_ADMIN: 12, CAP_NET_RAW: 13, CAP_BPF: 39 }

const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0
t.test(
  'systemd finds nothing wrong with it, and little exposed',
  { skip: hasSystemd ? false : 'needs systemd-analyze' },
  async (t) => {
    const path = join(t.testdir(), 'heddled.service')
    // The programs that it names are not installed here.
    writeFileSync(path, UNIT.replaceAll(/^(Exec\w+)=.*$/gm, '$1=/bin/true'))
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', path], {
      encoding: 'utf8',
    })
    t.equal(status, 0, stderr)
    t.notMatch(stderr, 'heddled.service')
    const table = spawnSync('systemd-analyze', ['security', '--offline=true', '--no-pager', path], {
      encoding: 'utf8',
    })
    const exposure = Number(/Overall exposure level.*?: ([\d.]+)/.exec(table.stdout)?.[1])
    t.ok(exposure < 4, `exposure ${exposure} of 10: ${table.stderr}`)
  },
)

t.test('the daemon with the privileges of its unit', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, daemons: 1, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const socket = join(h2.dir, 'notify')
  const listener = await h2.spawn('socat', ['-u', `UNIX-RECV:${socket}`, 'STDOUT'])
  await until('the socket is there', 10_000, () => existsSync(socket))
  const granted = CAPABILITIES.map((name) => `+${name.replace('CAP_', '').toLowerCase()}`)
  const daemon = await h2.spawn(
    'setpriv',
    [
      '--no-new-privs',
      `--bounding-set=-all,${granted.join(',')}`,
      `--inh-caps=-all`,
      process.execPath,
      HEDDLED,
      `--store=file:${overlay.directory}`,
      '--iface=eth0',
      `--subnet-file=${h2.subnetFile}`,
      '--queues=2',
      '--ip-masq',
    ],
    { name: 'heddled', env: { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '1000000' } },
  )
  overlay.daemons.set(h2, daemon)
  await overlay.ready(h2, 1)

  await t.test('it has those and no others', async (t) => {
    const status = readFileSync(`/proc/${daemon.pid}/status`, 'utf8')
    const bits = CAPABILITIES.reduce((set, name) => set | (1n << BigInt(BIT[name] ?? 63)), 0n)
    t.equal(/^CapEff:\s*(.*)$/m.exec(status)?.[1], bits.toString(16).padStart(16, '0'))
    t.match(status, /^NoNewPrivs:\s*1$/m)
  })

  await t.test('traffic, two queues, firewall rules', async (t) => {
    const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    t.ok((await tcpTransfer(p1, p2, p2.address, { bytes: 20e6 })).intact)
    t.equal((await overlay.status(h2)).queues.length, 2)
    t.notMatch(daemon.stderr(), /^[EF]\d{4}/m)
  })

  await t.test('F28 the service manager hears of it from ready to stop', async (t) => {
    await until('the watchdog hears it three times', 10_000, () => {
      return (listener.stdout().match(/WATCHDOG=1/g) ?? []).length >= 3
    })
    const { lease } = await overlay.status(h2)
    t.match(listener.stdout(), `READY=1STATUS=forwarding for ${lease.subnet}`)
    await daemon.stop()
    // the watchdog hears the daemon until it has stopped, however long that takes
    t.match(listener.stdout(), /STOPPING=1(WATCHDOG=1)*$/)
  })
})

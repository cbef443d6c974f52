/**
 * @serial What keeps a daemon from starting, or disturbs it later: each time a message that names
 * what is wrong and what to do, the exit code, and nothing left behind. And how it tells that it is
 * ready: NOTIFY_SOCKET, healthz and readyz.
 */
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { HEDDLED, type Host } from '../lab/host.js'
import { type ManagedProcess, run } from '../lab/process.js'
import { createOverlay, links, NETWORK, type Overlay, skip, until } from './overlay.js'

t.setTimeout(90_000)

const EXIT_FATAL = 1
const EXIT_USAGE = 2

/** klog's line header, as log scrapers expect it. */
const KLOG = /^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ [\w.-]+:\d+\] /

/** A whole run of a daemon that is expected to end by itself. */
function attempt(overlay: Overlay, host: Host, args: readonly string[], wrapper: string[] = []) {
  const store = [`--store=file:${overlay.directory}`]
  const [command = '', ...rest] = [...wrapper, process.execPath, HEDDLED, ...store, ...args]
  return host.run(command, rest, { timeoutMs: 10_000 })
}

t.test('a daemon that cannot start says why', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, daemons: 1, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const other = (host: Host) => `--subnet-file=${join(host.dir, 'other', 'subnet.env')}`

  const cases: readonly {
    name: string
    host: Host
    args: string[]
    wrapper?: string[]
    code: number
    says: RegExp[]
  }[] = [
    {
      name: 'a second one with the same subnet file',
      host: h1,
      args: ['--iface=eth0', `--subnet-file=${h1.subnetFile}`],
      code: EXIT_FATAL,
      says: [/another heddled runs/, new RegExp(`${h1.subnetFile}\\.lock`)],
    },
    {
      name: 'a second one on the same port',
      host: h1,
      args: ['--iface=eth0', other(h1)],
      code: EXIT_FATAL,
      says: [/UDP 172\.30\.0\.11:8285 is taken/, /Backend\.Port/],
    },
    {
      name: 'no CAP_NET_ADMIN',
      host: h2,
      args: ['--iface=eth0', other(h2)],
      wrapper: ['setpriv', '--bounding-set=-net_admin'],
      code: EXIT_FATAL,
      says: [/not permitted/, /CAP_NET_ADMIN/],
    },
    {
      name: 'no CAP_NET_RAW',
      host: h2,
      args: ['--iface=eth0', other(h2)],
      wrapper: ['setpriv', '--bounding-set=-net_raw'],
      code: EXIT_FATAL,
      says: [/not permitted/, /CAP_NET_RAW/],
    },
    {
      name: 'no /dev/net/tun',
      host: h2,
      args: ['--iface=eth0', other(h2)],
      wrapper: ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs none /dev/net && exec "$@"', 'sh'],
      code: EXIT_FATAL,
      says: [/\/dev\/net\/tun cannot be opened/, /modprobe tun/],
    },
    {
      name: 'no such interface',
      host: h2,
      args: ['--iface=eth7', other(h2)],
      code: EXIT_FATAL,
      says: [/no interface "eth7"/, /eth0/, /172\.30\.0\.12/],
    },
    {
      name: 'a flag that does not exist',
      host: h2,
      args: ['--no-such-flag=1'],
      code: EXIT_USAGE,
      says: [/no-such-flag/, /usage/i, /--subnet-file/],
    },
    {
      name: 'a flag with a bad value',
      host: h2,
      args: ['--subnet-lease-renew-margin=1440'],
      code: EXIT_USAGE,
      says: [/1 to 1439/],
    },
    {
      name: 'a flag that is not built yet',
      host: h2,
      args: ['--kube-subnet-mgr'],
      code: EXIT_USAGE,
      says: [/kube-subnet-mgr/, /not built yet/],
    },
    {
      name: 'a health port that is taken',
      host: h1,
      args: ['--iface=eth0', other(h1), '--healthz-port=8081'],
      code: EXIT_FATAL,
      says: [/8081/, /EADDRINUSE|in use|taken/],
    },
  ]
  const occupier = await h1.spawn('socat', ['TCP-LISTEN:8081,fork', 'SYSTEM:true'])
  await until('port 8081 is taken', 5000, async () => {
    return (await h1.run('ss', ['-ltn'])).stdout.includes(':8081')
  })
  for (const { name, host, args, wrapper, code, says } of cases) {
    const result = await attempt(overlay, host, args, wrapper)
    t.equal(result.code, code, `${name}: exit code\n${result.stderr}`)
    for (const what of says) t.match(result.stderr, what, name)
    t.notMatch(result.stderr, /^ {4}at /m, `${name}: no stack trace`)
    t.notOk((await links(h2)).includes('flannel0'), `${name}: no device left`)
  }
  await occupier.stop()
  t.equal((await overlay.status(h1)).state, 'ready', 'the first daemon has noticed nothing')
  t.same(await links(h1), ['lo', 'eth0', 'flannel0'])

  await t.test('a route of somebody else is not touched', async (t) => {
    await h2.ip(`route add ${NETWORK} via 172.30.0.254 dev eth0`)
    const result = await attempt(overlay, h2, ['--iface=eth0', other(h2)])
    t.equal(result.code, EXIT_FATAL)
    t.match(result.stderr, /10\.5\.0\.0\/16 leads to eth0, not to flannel0.*ip route del/)
    t.match((await h2.run('ip', ['route'])).stdout, /10\.5\.0\.0\/16 via 172\.30\.0\.254 dev eth0/)
    t.notOk((await links(h2)).includes('flannel0'))
    await h2.ip(`route del ${NETWORK}`)
  })

  await t.test('`heddle status` without a daemon', async (t) => {
    const tool = fileURLToPath(new URL('../cli/heddle.js', import.meta.url))
    const result = await run(process.execPath, [tool, 'status', `--subnet-file=${h2.subnetFile}`])
    t.equal(result.code, 1)
    t.match(result.stderr, /no daemon answers on .*subnet\.env\.sock/)
  })
})

t.test('ready: NOTIFY_SOCKET, healthz, readyz, the log (F28 to F30)', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, daemons: 0, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  await overlay.configure({ Network: 'nonsense' })
  const socket = join(h1.dir, 'notify')
  const listener = await h1.spawn('socat', ['-u', `UNIX-RECV:${socket}`, 'STDOUT'])
  await until('the notify socket is there', 5000, () => existsSync(socket))
  const args = [`--store=file:${overlay.directory}`, '--iface=eth0', '--healthz-port=8081']
  const start = async (host: Host, subnetFile: string): Promise<ManagedProcess> => {
    const all = [HEDDLED, ...args, `--subnet-file=${subnetFile}`]
    const daemon = await host.spawn(process.execPath, all, {
      name: 'heddled',
      env: { NOTIFY_SOCKET: socket },
    })
    overlay.daemons.set(host, daemon)
    return daemon
  }
  const health = async (host: Host, path: string): Promise<string> => {
    const url = `http://127.0.0.1:8081${path}`
    return (await host.run('curl', ['-s', '-w', ' %{http_code}', url])).stdout
  }

  const daemon = await start(h1, h1.subnetFile)
  await daemon.waitFor(/Couldn't fetch network config.*nonsense|Couldn't fetch network config/)
  t.equal(await health(h1, '/healthz'), 'flanneld is running 200', 'no valid configuration yet')
  t.equal(await health(h1, '/readyz'), 'flanneld is not ready yet 503')
  t.equal(await health(h1, '/other').then((text) => text.slice(-3)), '404')
  t.equal(listener.stdout(), '')
  t.notOk((await links(h1)).includes('flannel0'))

  await overlay.configure({ Network: NETWORK, Backend: { Type: 'udp' } })
  await listener.waitFor(/READY=1/)
  t.ok(existsSync(h1.subnetFile), 'told after the file is there')
  t.equal(await health(h1, '/healthz'), 'flanneld is running 200')
  t.equal(await health(h1, '/readyz'), 'flanneld is ready 200')
  t.equal(listener.stdout().match(/READY=1/g)?.length, 1, 'once')

  // A subnet file that cannot be written: the daemon forwards, and is never ready.
  const folder = join(h2.dir, 'folder')
  mkdirSync(join(folder, 'not-empty'), { recursive: true })
  const unready = await start(h2, folder)
  await unready.waitFor(/Failed to write subnet file/)
  t.equal(await health(h2, '/readyz'), 'flanneld is not ready yet 503')
  t.ok((await links(h2)).includes('flannel0'))

  for (const one of [daemon, unready]) {
    one.kill('SIGTERM')
    t.same(await one.exited, { code: 0, signal: null })
    const lines = one.stderr().trim().split('\n')
    t.same(
      lines.filter((line) => !KLOG.test(line)),
      [],
      'every line has klog’s header',
    )
  }
})

t.test('a configuration that this daemon cannot serve', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 1, daemons: 0, store: 'file' })
  const h1 = overlay.host(1)
  const own = ['--iface=eth0', `--subnet-file=${h1.subnetFile}`]
  for (const [backend, says] of [
    [{ Type: 'carrier-pigeon' }, /carrier-pigeon/],
    [{ Type: 'udp', Port: 'high' }, /Port/],
    [{ Type: 'udp', Port: 65536 }, /Port/],
  ] as const) {
    await overlay.configure({ Network: NETWORK, Backend: backend })
    const result = await attempt(overlay, h1, own)
    t.equal(result.code, EXIT_FATAL, `${JSON.stringify(backend)}\n${result.stderr}`)
    t.match(result.stderr, says)
    t.notOk((await links(h1)).includes('flannel0'))
  }
})

t.test('somebody takes the kernel’s state away', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'file' })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const base = (await h2.subnetEnv()).gateway.replace(/1$/, '0')
  const ping = async () => (await h1.run('ping', ['-c1', '-W1', base])).code
  t.equal(await ping(), 0)

  for (const damage of [
    `route del ${NETWORK} dev flannel0`,
    'link set flannel0 mtu 1000',
    'link set flannel0 down',
  ]) {
    await h1.ip(damage)
    await until(`repaired: ${damage}`, 10_000, async () => isWhole(h1))
    t.equal(await ping(), 0, damage)
  }

  const daemon = overlay.daemon(h1)
  await h1.ip('link del flannel0')
  const status = await daemon.exited
  t.same(status, { code: EXIT_FATAL, signal: null }, 'without its device it ends')
  t.match(daemon.stderr(), /^F.*(engine|device|flannel0)/m)
})

/** Whether the TUN device is as it was made. */
async function isWhole(host: Host): Promise<boolean> {
  const link = (await host.run('ip', ['link', 'show', 'flannel0'])).stdout
  const routes = (await host.run('ip', ['route'])).stdout
  return /[<,]UP[,>].*mtu 1472/.test(link) && routes.includes(`${NETWORK} dev flannel0`)
}

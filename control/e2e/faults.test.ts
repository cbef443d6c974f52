/**
 * @parallel What keeps a daemon from starting: each time a message that names what is wrong and what
 * to do, the exit code, and nothing left behind.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { HEDDLED, type Host } from '../lab/host.js'
import { run } from '../lab/process.js'
import { createOverlay, links, NETWORK, type Overlay, skip, until } from './overlay.js'

t.setTimeout(90_000)

const EXIT_FATAL = 1
const EXIT_USAGE = 2

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
      name: 'a second one of the same network',
      host: h1,
      args: ['--iface=eth0', other(h1)],
      code: EXIT_FATAL,
      says: [/udp 10\.5\.0\.0\/16 is kept by another heddled/, /a network, port/],
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
      name: 'Kubernetes outside of a pod, without an address',
      host: h2,
      args: ['--store=etcd', '--kube-subnet-mgr'],
      code: EXIT_FATAL,
      says: [/KUBERNETES_SERVICE_HOST/, /--kubeconfig-file/],
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
    t.equal(result.code, code, `${name}: exit code`, { said: result.stderr })
    for (const what of says) t.match(result.stderr, what, name)
    t.notMatch(result.stderr, /^ {4}at /m, `${name}: no stack trace`)
    t.notOk((await links(h2)).includes('flannel0'), `${name}: no device left`)
  }
  await occupier.stop()
  t.equal((await overlay.status(h1)).state, 'ready', 'the first daemon has noticed nothing')
  t.same(await links(h1), ['lo', 'eth0', 'flannel0'])

  await t.test('a port that is taken', async (t) => {
    const occupier = await h2.spawn('socat', ['-u', 'UDP-RECV:8285', 'OPEN:/dev/null'])
    await until('port 8285 is taken', 5000, async () => {
      return (await h2.run('ss', ['-lun'])).stdout.includes(':8285')
    })
    const result = await attempt(overlay, h2, ['--iface=eth0', other(h2)])
    t.equal(result.code, EXIT_FATAL)
    t.match(result.stderr, /UDP 172\.30\.0\.12:8285 is taken.*Backend\.Port/)
    t.notOk((await links(h2)).includes('flannel0'))
    await occupier.stop()
  })

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
    t.equal(result.code, EXIT_FATAL, JSON.stringify(backend), { said: result.stderr })
    t.match(result.stderr, says)
    t.notOk((await links(h1)).includes('flannel0'))
  }
})

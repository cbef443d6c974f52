/**
 * @parallel Backends without a tunnel: `host-gw` (routes through peers), `alloc` (a lease alone) and `extension`
 * (commands of the operator's own).
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { tcpTransfer } from '../lab/transfers.js'
import { createOverlay, links, overlayAddress, PREFIX, skip, until } from './overlay.js'

t.setTimeout(120_000)

/** Five seconds, and what a busy machine may add. */
const REPAIR_MS = 15_000

t.test('F50 host-gw', { skip }, async (t) => {
  const overlay = await createOverlay(t, {
    hosts: 2,
    store: 'etcd',
    ipv6: true,
    network: { EnableIPv6: true, IPv6Network: 'fd05::/48' },
    backend: { Type: 'host-gw' },
  })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  for (const host of [h1, h2]) await host.sysctl({ 'net.ipv6.conf.all.forwarding': 1 })
  const base2 = await overlayAddress(h2)
  const has = async (text: string) => (await h1.run('ip', ['route'])).stdout.includes(text)
  const route = `${base2}/24 via ${h2.address} dev eth0`
  await until('the route is there', REPAIR_MS, () => has(route))

  await t.test('routes, no device, the MTU of the underlay', async (t) => {
    t.equal((await h1.subnetEnv()).mtu, 1500)
    t.notOk((await links(h1)).some((name) => name.startsWith('flannel')))
    const keys = await overlay.lab.etcd.list(`${PREFIX}/subnets/`)
    t.match([...keys].map(([, value]) => value).sort()[0], /"BackendType":"host-gw"}$/)
    t.match((await h1.run('ip', ['-6', 'route'])).stdout, `via ${h2.address6} dev eth0 proto 72`)
  })

  await t.test('traffic of both families, not encapsulated', async (t) => {
    for (const address of [p2.address, p2.address6]) {
      const { stdout } = await p1.run('ping', ['-c3', '-i0.2', '-W2', address])
      t.match(stdout, / ttl=62\b/)
      t.ok((await tcpTransfer(p1, p2, address, { bytes: 20e6 })).intact)
    }
  })

  await t.test('a route that is taken away or led astray comes back', async (t) => {
    await h1.ip(`route del ${base2}/24`)
    await until('it is back', REPAIR_MS, () => has(route))
    await h1.ip(`route replace ${base2}/24 via 172.30.0.254`)
    await until('it is corrected', REPAIR_MS, () => has(route))
    // Without IPv6, whose addresses would go with the link.
    await h1.ip(
      'link set eth0 down',
      'link set eth0 up',
      `address add ${h1.address6}/64 dev eth0 nodad`,
    )
    await until('it is back after the link was down', REPAIR_MS, () => has(route))
    t.equal((await p1.run('ping', ['-c1', '-W2', p2.address])).code, 0)
  })

  await t.test('one that flanneld left is taken over; others stay', async (t) => {
    await overlay.daemon(h1).stop()
    await h1.ip(
      `route del ${base2}/24`,
      `route add ${route}`,
      `route add 10.99.0.0/24 via ${h2.address}`,
    )
    await overlay.start(h1)
    await overlay.ready(h1, 1)
    await until('it is ours', REPAIR_MS, () => has(`${route} proto 72`))
    await overlay.daemon(h2).stop()
    await overlay.lab.etcd.ctl('del', '--prefix', `${PREFIX}/subnets/${base2}-24`)
    await until('it goes with its peer', REPAIR_MS, async () => !(await has(route)))
    t.ok(await has('10.99.0.0/24'))
  })

  await t.test('F35 an address behind a NAT is refused', async (t) => {
    const daemon = await overlay.start(h2, ['--public-ip=198.51.100.7'])
    t.equal((await daemon.exited).code, 1)
    t.match(
      daemon.stderr(),
      /--public-ip 198\.51\.100\.7 is not the address 172\.30\.0\.12 of eth0/,
    )
  })
})

t.test('F54 alloc: a lease and a file, no device and no routes', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'etcd', backend: { Type: 'alloc' } })
  const h1 = overlay.host(1)
  const env = await h1.subnetEnv()
  t.equal(env.mtu, 1500)
  t.same((await links(h1)).sort(), ['eth0', 'lo'])
  t.notMatch((await h1.run('ip', ['route'])).stdout, '10.5.')
  const keys = [...(await overlay.lab.etcd.list(`${PREFIX}/subnets/`))]
  t.same(
    keys.map(([, value]) => value).sort(),
    [1, 2].map((n) => `{"PublicIP":"${overlay.host(n).address}","PublicIPv6":null}`),
  )
  t.match(await overlay.status(h1), { backend: { type: 'alloc', port: null, dataplane: 'none' } })
})

/** Writes what it is told to a file: its name, the variables, and what it reads. */
const HOOK = `#!/bin/sh
{
  printf '%s ' "$@"
  printf '| NETWORK=%s SUBNET=%s PUBLIC_IP=%s | ' "$NETWORK" "$SUBNET" "$PUBLIC_IP"
  cat
  echo
} >> "$LOG"
echo ' key-of-this-host '
`

t.test(
  'F55 extension: order, variables, input, nothing that a shell would read',
  { skip },
  async (t) => {
    const overlay = await createOverlay(t, { hosts: 2, daemons: 0, store: 'etcd' })
    const [h1, h2] = [overlay.host(1), overlay.host(2)]
    const hook = join(overlay.lab.dir, 'hook')
    writeFileSync(hook, HOOK, { mode: 0o755 })
    const log = join(overlay.lab.dir, 'hook.log')
    writeFileSync(log, '')
    process.env['LOG'] = log
    await overlay.configure({
      Network: '10.5.0.0/16',
      Backend: {
        Type: 'extension',
        PreStartupCommand: `${hook} pre`,
        PostStartupCommand: `${hook} post $SUBNET`,
        SubnetAddCommand: `${hook} add \${SUBNET} "a;b"`,
        SubnetRemoveCommand: `${hook} remove $SUBNET`,
      },
    })
    await overlay.start(h1)
    await overlay.ready(h1, 0)
    const own = (await h1.subnetEnv()).gateway.replace(/1$/, '0/24')
    const evil = '$(touch /tmp/heddle-evil) `id`; rm -rf "x" | ${SUBNET}'
    const key = `${PREFIX}/subnets/10.5.250.0-24`
    const value = {
      PublicIP: h2.address,
      PublicIPv6: null,
      BackendType: 'extension',
      BackendData: evil,
    }
    await overlay.lab.etcd.put(key, JSON.stringify(value))
    await overlay.ready(h1, 1)
    await overlay.lab.etcd.put(`${PREFIX}/subnets/10.5.251.0-24`, '{"PublicIP":"172.30.0.99"}')
    await overlay.daemon(h1).waitFor(/ignoring lease 10\.5\.251\.0\/24: its backend type is none/)
    await overlay.lab.etcd.ctl('del', key)
    await overlay.ready(h1, 0)
    /** Whole lines alone. */
    const lines = () =>
      readFileSync(log, 'utf8')
        .split('\n')
        .slice(0, -1)
        .map((line) => line.trimEnd())
        .filter((line) => line !== '')
    await until('all four were run', REPAIR_MS, () => lines().length === 4)
    t.same(
      lines(),
      [
        'pre | NETWORK= SUBNET= PUBLIC_IP= | ',
        `post ${own} | NETWORK=10.5.0.0/16 SUBNET=${own} PUBLIC_IP=${h1.address} | `,
        `add 10.5.250.0/24 "a;b" | NETWORK= SUBNET=10.5.250.0/24 PUBLIC_IP=${h2.address} | ${evil}`,
        `remove 10.5.250.0/24 | NETWORK= SUBNET=10.5.250.0/24 PUBLIC_IP=${h2.address} | ${evil}`,
      ].map((line) => line.trimEnd()),
    )
    const keys = [...(await overlay.lab.etcd.list(`${PREFIX}/subnets/`))]
    t.ok(
      keys.some(([, text]) =>
        text.endsWith('"BackendType":"extension","BackendData":"key-of-this-host"}'),
      ),
    )
    t.notOk((await h1.run('test', ['-e', '/tmp/heddle-evil'])).code === 0)

    await overlay.configure({
      Network: '10.5.0.0/16',
      Backend: { Type: 'extension', PostStartupCommand: 'false' },
    })
    const failing = await overlay.start(h2)
    t.equal((await failing.exited).code, 1)
    t.match(failing.stderr(), /`false` ended with 1/)
  },
)

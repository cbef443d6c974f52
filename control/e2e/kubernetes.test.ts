/**
 * @serial Daemons of a Kubernetes cluster: subnets of nodes, annotations as flannel's, nodes that come and go, an API
 * that is away, a reload, and a daemon in a pod with nothing but its service account.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { HEDDLED, type Host } from '../lab/host.js'
import { FLANNEL_TOKEN } from '../lab/kube/cluster.js'
import { createLab } from '../lab/lab.js'
import { must } from '../lab/process.js'
import { exchange } from './exchange.js'
import { KERNEL_MAC } from './kernel-vxlan.js'
import { createOverlay, skip, until, type Overlay } from './overlay.js'
import { Pinger } from './pinger.js'

t.setTimeout(240_000)

const P = 'flannel.alpha.coreos.com/'
const SOON_MS = 15_000
const TOOL = fileURLToPath(new URL('../cli/heddle.js', import.meta.url))
const SERVICE_ACCOUNT = '/run/secrets/kubernetes.io/serviceaccount'

async function annotationsOf(overlay: Overlay, host: Host): Promise<Record<string, string>> {
  const { annotations = {} } = (await overlay.cluster.node(host.name)).metadata
  const ours = Object.entries(annotations).filter(([name]) => name.startsWith(P))
  return Object.fromEntries(ours.map(([name, value]) => [name.slice(P.length), value]))
}

/** Makes of a host, with the kernel's device alone, what a node with an annotated lease has; without a daemon. */
async function programNode(overlay: Overlay, host: Host, peer: Host): Promise<void> {
  const data = (await annotationsOf(overlay, peer))['backend-data'] ?? ''
  const { VtepMAC: mac } = JSON.parse(data) as { VtepMAC: string }
  const base = (await peer.subnetEnv()).gateway.replace(/1$/, '0')
  await host.ip(
    `link add flannel.1 address ${KERNEL_MAC} mtu 1450 type vxlan id 1 dev eth0 local ${host.address} dstport 8472 nolearning`,
    'link set flannel.1 up',
    'address add 10.5.3.0/32 dev flannel.1',
    `neigh replace ${base} lladdr ${mac} dev flannel.1 nud permanent`,
    `route replace ${base}/24 via ${base} dev flannel.1 onlink`,
  )
  const entry = ['fdb', 'add', mac, 'dev', 'flannel.1', 'dst', peer.address, 'self', 'permanent']
  await must('bridge', ['-n', host.netns, ...entry])
}

t.test('nodes of a cluster', { skip }, async (t) => {
  const backend = { Type: 'vxlan' }
  const overlay = await createOverlay(t, { hosts: 3, daemons: 2, store: 'kubernetes', backend })
  const { cluster } = overlay
  const [h1, h2, h3] = [overlay.host(1), overlay.host(2), overlay.host(3)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]

  await t.test('F65 what a node says of itself', async (t) => {
    for (const host of [h1, h2]) {
      const said = await annotationsOf(overlay, host)
      t.match(said, {
        'kube-subnet-manager': 'true',
        'backend-type': 'vxlan',
        'backend-data': /^\{"VNI":1,"VtepMAC":"([0-9a-f]{2}:){5}[0-9a-f]{2}"\}$/,
        'public-ip': host.address,
      })
      t.equal(Object.keys(said).length, 4)
    }
    const env = await h1.subnetEnv()
    t.match(env, { network: '10.5.0.0/16', gateway: '10.5.1.1', prefixLen: 24, mtu: 1450 })
    const { store, lease } = await overlay.status(h1)
    t.equal(store.description, 'Kubernetes Subnet Manager - h1')
    t.match(lease, { subnet: '10.5.1.0/24', publicIP: h1.address, expiresAt: null })
    await until('the scheduler may use h1', SOON_MS, async () => {
      const conditions = (await cluster.node('h1')).status?.conditions ?? []
      return conditions.some((c) => c.type === 'NetworkUnavailable' && c['status'] === 'False')
    })
  })

  await t.test('pods of two nodes talk', async (t) => {
    await exchange(t, [p1, p2], { mtu: 1450, bytes: 20e6 })
    await exchange(t, [p2, p1], { mtu: 1450, bytes: 20e6 })
  })

  await t.test('F68 a node without a daemon joins by its annotations, and leaves', async (t) => {
    await programNode(overlay, h3, h1)
    const pinger = await Pinger.start(p1, '10.5.3.0')
    await cluster.annotate('h3', {
      [`${P}kube-subnet-manager`]: 'true',
      [`${P}backend-type`]: 'vxlan',
      [`${P}backend-data`]: `{"VtepMAC":"${KERNEL_MAC}"}`,
      [`${P}public-ip`]: h3.address,
    })
    await pinger.answerAfter(Date.now(), SOON_MS)
    t.equal((await overlay.status(h1)).peers.length, 2)
    await cluster.removeNode('h3')
    await pinger.silence(500, SOON_MS)
    await until('h1 has one peer', SOON_MS, async () => {
      return (await overlay.status(h1)).peers.length === 1
    })
    await pinger.stop()
  })

  await t.test('a restart changes nothing of the node', async (t) => {
    const before = await annotationsOf(overlay, h2)
    await overlay.daemon(h2).stop()
    await overlay.start(h2)
    await overlay.ready(h2, 1)
    t.same(await annotationsOf(overlay, h2), before)
    t.equal((await p1.run('ping', ['-c3', '-i0.1', '-W2', p2.address])).code, 0)
  })

  await t.test('an API that is away: packets flow, and what was missed is learned', async (t) => {
    const pinger = await Pinger.start(p1, p2.address)
    await cluster.stop()
    await until('h1 knows', SOON_MS, async () => !(await overlay.status(h1)).store.isReachable)
    await pinger.answerAfter(Date.now(), SOON_MS)
    await cluster.start()
    await cluster.addNode('h3', ['10.5.3.0/24'], {
      [`${P}kube-subnet-manager`]: 'true',
      [`${P}backend-type`]: 'vxlan',
      [`${P}backend-data`]: `{"VtepMAC":"${KERNEL_MAC}"}`,
      [`${P}public-ip`]: h3.address,
    })
    await overlay.ready(h1, 2)
    t.ok((await overlay.status(h1)).store.isReachable)
    t.ok(pinger.longestGap() < 1000, `the longest gap is ${pinger.longestGap().toFixed(0)} ms`)
    await pinger.stop()
    await overlay.ready(h2, 2)
  })

  await t.test('a reload loses no ping', async (t) => {
    const ping = await p1.spawn('ping', ['-i0.02', p2.address])
    const args = [TOOL, 'reload', `--subnet-file=${h2.subnetFile}`]
    const { code, stderr } = await h2.run(process.execPath, args, { timeoutMs: 60_000 })
    t.equal(code, 0, stderr)
    await overlay.ready(h2, 2)
    t.equal((await p1.run('ping', ['-c3', '-i0.1', '-W2', p2.address])).code, 0)
    ping.kill('SIGINT')
    await ping.exited
    const numbers = [...ping.stdout().matchAll(/icmp_seq=(\d+) ttl/g)].map(([, n]) => Number(n))
    t.equal(new Set(numbers).size, Math.max(...numbers), 'none is missing')
  })

  await t.test('a node that gets another subnet ends its daemon, with a message', async (t) => {
    const daemon = overlay.daemon(h2)
    await cluster.removeNode('h2')
    await overlay.ready(h1, 1)
    t.ok(daemon.running, 'it goes on without')
    t.equal((await overlay.status(h2)).peers.length, 2)
    await cluster.addNode('h2', ['10.5.7.0/24'])
    t.same(await daemon.exited, { code: 1, signal: null })
    t.match(daemon.stderr(), /F.*node h2 has the subnet 10\.5\.7\.0\/24 now/)
    await overlay.start(h2)
    t.equal((await overlay.ready(h2, 2)).lease.subnet, '10.5.7.0/24')
  })

  await t.test('in a pod, with its service account alone', async (t) => {
    await overlay.daemon(h2).stop()
    const account = join(h2.dir, 'account')
    mkdirSync(account)
    writeFileSync(join(account, 'token'), FLANNEL_TOKEN)
    await must('cp', [cluster.caFile, join(account, 'ca.crt')])
    await cluster.addPod('heddle-x', 'kube-heddle', 'h2')
    const api = new URL(cluster.url)
    const daemon = await h2.spawn(
      'sh',
      [
        '-c',
        // What is mounted here nobody else sees.
        'mount -t tmpfs tmpfs /run && mkdir -p "$2" && mount --bind "$1" "$2" && shift 2 && exec "$@"',
        'sh',
        account,
        SERVICE_ACCOUNT,
        process.execPath,
        HEDDLED,
        '--kube-subnet-mgr',
        `--net-config-path=${overlay.netConfig}`,
        '--iface=eth0',
        `--subnet-file=${h2.subnetFile}`,
        '--set-node-network-unavailable=false',
      ],
      {
        name: 'heddled',
        env: {
          KUBERNETES_SERVICE_HOST: api.hostname,
          KUBERNETES_SERVICE_PORT: api.port,
          POD_NAME: 'heddle-x',
          POD_NAMESPACE: 'kube-heddle',
        },
      },
    )
    overlay.daemons.set(h2, daemon)
    t.equal((await overlay.ready(h2, 2)).store.description, 'Kubernetes Subnet Manager - h2')
    t.notMatch(daemon.stderr(), FLANNEL_TOKEN)
  })
})

const IPV6 = { EnableIPv6: true, IPv6Network: 'fd00:5::/48' }
const DATA = /^\{"VNI":1,"VtepMAC":/

/** Networks and underlays, and what a node says of itself there. */
const FAMILIES: readonly {
  readonly name: string
  readonly network: object
  readonly backend: Readonly<Record<string, unknown>>
  readonly inner: readonly (4 | 6)[]
  readonly says: readonly string[]
}[] = [
  {
    name: 'both families',
    network: IPV6,
    backend: { Type: 'vxlan' },
    inner: [4, 6],
    says: ['backend-data', 'backend-v6-data', 'public-ip', 'public-ipv6'],
  },
  {
    name: 'IPv6 alone',
    network: { EnableIPv4: false, ...IPV6 },
    backend: { Type: 'vxlan' },
    inner: [6],
    says: ['backend-v6-data', 'public-ipv6'],
  },
  {
    name: 'IPv4 over IPv6',
    network: {},
    backend: { Type: 'vxlan', Underlay: 'ipv6' },
    inner: [4],
    says: ['backend-data', 'public-ip', 'public-ipv6'],
  },
]

for (const { name, network, backend, inner, says } of FAMILIES) {
  t.test(name, { skip }, async (t) => {
    const options = { hosts: 2, daemons: 0, store: 'kubernetes', ipv6: true } as const
    const overlay = await createOverlay(t, { ...options, network: { ...network }, backend })
    const [h1, h2] = [overlay.host(1), overlay.host(2)]
    // Chosen by its address, and not by the default route.
    const isNamed = says.includes('public-ip')
    if (isNamed) await overlay.cluster.annotate('h1', { [`${P}node-public-ip`]: h1.address })
    await overlay.start(h1, [], isNamed ? [] : undefined)
    await overlay.start(h2)
    for (const host of [h1, h2]) await overlay.ready(host, 1)
    const said = await annotationsOf(overlay, h1)
    const written = Object.keys(said).filter((key) => key !== 'node-public-ip')
    t.same(written.sort(), ['backend-type', 'kube-subnet-manager', ...says].sort())
    const wanted = { 'public-ip': h1.address, 'public-ipv6': h1.address6 }
    for (const [key, value] of Object.entries(said)) {
      if (key in wanted) t.equal(value, wanted[key as keyof typeof wanted], key)
      if (key.endsWith('-data')) t.match(value, DATA, key)
    }
    const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    for (const family of inner) {
      await exchange(t, [p1, p2], { family, mtu: 1430, bytes: 5e6 })
      await exchange(t, [p2, p1], { family, mtu: 1430, bytes: 5e6 })
    }
  })
}

for (const backend of [
  { Type: 'udp' },
  { Type: 'host-gw' },
  { Type: 'ipip' },
  { Type: 'vxlan', Dataplane: 'kernel' },
]) {
  t.test(JSON.stringify(backend), { skip }, async (t) => {
    const overlay = await createOverlay(t, { hosts: 2, store: 'kubernetes', backend })
    const [h1, h2] = [overlay.host(1), overlay.host(2)]
    const { 'backend-data': data, ...said } = await annotationsOf(overlay, h1)
    t.same(said, {
      'kube-subnet-manager': 'true',
      'backend-type': backend.Type === 'udp' ? '' : backend.Type,
      'public-ip': h1.address,
    })
    t.match(data, backend.Type === 'vxlan' ? DATA : /^null$/)
    const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
    t.equal((await p1.run('ping', ['-c3', '-i0.1', '-W2', p2.address])).code, 0)
  })
}

const ENTRYPOINT = fileURLToPath(new URL('../../../docs/kubernetes/entrypoint.sh', import.meta.url))

t.test('the image takes the iptables in which the host has its rules', { skip }, async (t) => {
  const lab = await createLab({ hosts: 2 })
  t.teardown(() => lab.close())
  const stub = join(lab.dir, 'bin')
  mkdirSync(stub)
  writeFileSync(join(stub, 'heddled'), '#!/bin/sh\necho "$*"; iptables --version\n', {
    mode: 0o755,
  })
  const env = { PATH: [stub, process.env['PATH']].join(':') }
  const chosen = async (host: Host) =>
    (await host.run('sh', [ENTRYPOINT, '--a', 'b c'], { env })).stdout
  const [h1, h2] = [lab.host(1), lab.host(2)]
  t.match(await chosen(h1), /^--a b c\niptables .*nf_tables/, 'nft without any rules')
  await h1.run('iptables-nft', ['-A', 'INPUT', '-j', 'ACCEPT'])
  t.match(await chosen(h1), /nf_tables/)
  const legacy = await h2.run('iptables-legacy', ['-A', 'INPUT', '-j', 'ACCEPT'])
  if (legacy.code === 0) t.match(await chosen(h2), /^--a b c\niptables .*legacy/)
  else t.comment(`not tried with rules of iptables-legacy: ${legacy.stderr.trim()}`)
})

/**
 * @serial What the daemon does with a packet that cannot go on: TTL, no route and its ICMP errors,
 * IPv6; and the port option. Every drop is checked against the counters of `heddle status`.
 */
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { CapturedPacket } from '../lab/capture.js'
import type { Host, Pod } from '../lab/host.js'
import { run } from '../lab/process.js'
import type { Status } from '../status.js'
import { behindEthernet, parseIpv4, PROTO_ICMP, PROTO_TCP, PROTO_UDP } from './ipv4.js'
import {
  assertAccounted,
  counted,
  createOverlay,
  NETWORK,
  type Overlay,
  overlayAddress,
  skip,
  tally,
  until,
} from './overlay.js'

t.setTimeout(90_000)

/** Lies in the network, and no host can lease it: the configuration below ends before it. */
const UNLEASED = '10.5.200.9'
const UNLEASED_SOURCE = '10.5.201.9'
const LEASABLE = { SubnetMin: '10.5.1.0', SubnetMax: '10.5.99.0' }

/** What moved in the counters of a host while something was done. */
async function during(overlay: Overlay, host: Host, act: () => Promise<unknown>) {
  const before = await overlay.settled(host)
  await act()
  const after = await overlay.settled(host)
  return counted(before, after)
}

/** The ICMP messages that a capture of a pod's interface holds. */
function icmpMessages(packets: readonly CapturedPacket[]) {
  return packets.map(({ bytes }) => {
    const packet = parseIpv4(behindEthernet(bytes) ?? bytes)
    const { payload } = packet
    return { ...packet, type: payload.readUInt8(0), code: payload.readUInt8(1) }
  })
}

const NET_UNREACHABLE = 'icmp[icmptype] = icmp-unreach'

t.test('TTL, no route, IPv6', { skip }, async (t) => {
  const overlay = await createOverlay(t, { hosts: 2, store: 'file', network: LEASABLE })
  const [h1, h2] = [overlay.host(1), overlay.host(2)]
  const [p1, p2] = [await overlay.addPod(h1), await overlay.addPod(h2)]
  const second = await overlay.addPod(h1)
  const [base1, base2] = [await overlayAddress(h1), await overlayAddress(h2)]
  const pings = (from: Pod | Host, ttl: number, to: string) =>
    from.run('ping', ['-c3', '-i0.05', '-W1', `-t${ttl}`, to])

  await t.test('a TTL that runs out is counted and answered where it does (F38)', async (t) => {
    // A pod's packet is lowered by its host's kernel, both daemons, and the other host's kernel.
    const cases = [
      { from: h1, to: base2, ttl: 1, at: h1, by: base1, count: 'egress.drop_ttl' },
      { from: h1, to: base2, ttl: 2, at: h2, by: base2, count: 'ingress.drop_ttl' },
      { from: p1, to: p2.address, ttl: 2, at: h1, by: base1, count: 'egress.drop_ttl' },
      { from: p1, to: p2.address, ttl: 3, at: h2, by: base2, count: 'ingress.drop_ttl' },
    ]
    for (const { from, to, ttl, at, by, count } of cases) {
      let result = { code: 0, stdout: '', stderr: '' }
      const moved = await during(overlay, at, async () => {
        result = await pings(from, ttl, to)
      })
      const name = `TTL ${ttl} from ${from.netns}`
      t.equal(result.code, 1, `${name} is lost`)
      t.match(moved, { [count]: 3, 'gauge.icmp_sent': 3 }, name)
      const answers = result.stdout.match(/From \S+ icmp_seq=\d+ Time to live exceeded/g) ?? []
      const wanted = [1, 2, 3].map((n) => `From ${by} icmp_seq=${n} Time to live exceeded`)
      t.same(answers, wanted, name)
    }
    t.equal((await pings(h1, 3, base2)).code, 0, 'TTL 3 crosses the overlay')
    t.match((await pings(p1, 4, p2.address)).stdout, /Time to live exceeded/, 'the kernel answers')
    t.equal((await pings(p1, 5, p2.address)).code, 0, 'TTL 5 reaches the pod')
  })

  await t.test('no route: ICMP 3/0 from the host’s overlay address (F39)', async (t) => {
    const cases = [
      {
        name: 'UDP',
        protocol: PROTO_UDP,
        send: ['bash', '-c', `echo x > /dev/udp/${UNLEASED}/53`],
      },
      { name: 'TCP', protocol: PROTO_TCP, send: ['bash', '-c', `: < /dev/tcp/${UNLEASED}/80`] },
      { name: 'ping', protocol: PROTO_ICMP, send: ['ping', '-c1', '-W2', UNLEASED] },
    ]
    for (const { name, protocol, send } of cases) {
      const capture = await p1.capture('eth0', NET_UNREACHABLE)
      const [command = '', ...args] = send
      let result = { code: 0, stdout: '', stderr: '' }
      const moved = await during(overlay, h1, async () => {
        result = await p1.run(command, args)
      })
      await capture.waitForPackets(1)
      const [message, ...more] = icmpMessages((await capture.stop()).packets)
      t.match(moved, { 'egress.drop_no_route': 1, 'gauge.icmp_sent': 1 }, name)
      t.match(message, { src: base1, dst: p1.address, type: 3, code: 0, isSumRight: true }, name)
      t.equal(more.length, 0, `${name}: one message`)
      const quoted = parseIpv4(message!.payload.subarray(8))
      t.match(quoted, { src: p1.address, dst: UNLEASED, protocol }, `${name}: what it is about`)
      if (name === 'TCP') t.match(result.stderr, /unreachable/i, 'connect() fails at once')
      if (name === 'ping') t.match(result.stdout, /Destination Net Unreachable/)
    }
  })

  await t.test('no route: one answer for a datagram in three fragments', async (t) => {
    const capture = await p1.capture('eth0', NET_UNREACHABLE)
    const moved = await during(overlay, h1, () =>
      p1.run('ping', ['-c1', '-W1', '-s4000', UNLEASED]),
    )
    t.match(moved, { 'egress.drop_no_route': 3, 'gauge.icmp_sent': 1 })
    t.equal((await capture.waitForPackets(1)).length, 1)
    await capture.stop()
  })

  await t.test('no route: an ICMP error is never answered', async (t) => {
    // The second pod asks from an address that nobody leases; the first one's kernel answers that
    // its port is closed, and this answer has no route.
    await second.ip(`address add ${UNLEASED_SOURCE}/32 dev lo`)
    const capture = await p1.capture('eth0', 'icmp')
    const moved = await during(overlay, h1, () =>
      second.run('socat', [
        '-u',
        'OPEN:/etc/hostname',
        `UDP:${p1.address}:9,bind=${UNLEASED_SOURCE}`,
      ]),
    )
    t.equal(moved['egress.drop_no_route'], 1)
    t.equal(moved['gauge.icmp_sent'], undefined)
    await capture.waitForPackets(1)
    const seen = icmpMessages((await capture.stop()).packets)
    t.match(seen, [{ src: p1.address, dst: UNLEASED_SOURCE, type: 3, code: 3 }])
    t.equal(seen.length, 1, 'the closed port’s own message and nothing else')
  })

  await t.test('no route: the answers are limited, the drops all counted', async (t) => {
    const capture = await second.capture('eth0', NET_UNREACHABLE)
    const start = performance.now()
    const moved = await during(overlay, h1, () =>
      second.run('ping', ['-c300', '-i0.002', '-W1', `-I${second.address}`, UNLEASED]),
    )
    const seconds = (performance.now() - start) / 1000
    const sent = moved['gauge.icmp_sent'] ?? 0
    t.equal(moved['egress.drop_no_route'], 300)
    t.equal(sent + (moved['gauge.icmp_limited'] ?? 0), 300)
    t.ok(sent >= 10 && sent <= 10 + 10 * seconds + 1, `${sent} sent in ${seconds.toFixed(1)} s`)
    t.equal((await capture.waitForPackets(sent)).length, sent, 'all that was sent arrives')
    await capture.stop()
  })

  await t.test('IPv6 on the device is counted and goes nowhere', async (t) => {
    const moved = await during(overlay, h1, () =>
      h1.run('ping', ['-6', '-c3', '-i0.05', '-W1', 'ff02::2%flannel0']),
    )
    t.ok((moved['egress.drop_ipv6_unsupported'] ?? 0) >= 3)
    t.equal(moved['egress.forward'], undefined)
    t.equal(moved['gauge.icmp_sent'], undefined)
  })

  await t.test(
    '`heddle status --json` says what the socket says; reads are accounted',
    async (t) => {
      for (const host of [h1, h2]) assertAccounted(t, host.name, await overlay.settled(host))
      const tool = fileURLToPath(new URL('../cli/heddle.js', import.meta.url))
      const asked = ['status', '--json', `--subnet-file=${h1.subnetFile}`]
      const { code, stdout, stderr } = await run(process.execPath, [tool, ...asked])
      t.equal(code, 0, stderr)
      const printed = JSON.parse(stdout) as Status
      t.match(printed, {
        state: 'ready',
        backend: { type: 'udp', port: 8285 },
        device: { name: 'flannel0', mtu: 1472 },
        network: NETWORK,
        lease: { subnet: `${base1}/24`, publicIP: h1.address },
        peers: [{ subnet: `${base2}/24`, publicIP: h2.address }],
        routes: 1,
      })
      const socket = tally(await overlay.status(h1))
      t.equal(tally(printed).get('egress.drop_ttl'), socket.get('egress.drop_ttl'))
    },
  )
})

t.test(
  'Port: 7890 at both ends works, two different ports do not meet (F37)',
  { skip },
  async (t) => {
    const overlay = await createOverlay(t, {
      hosts: 3,
      daemons: 2,
      store: 'file',
      backend: { Port: 7890 },
    })
    const [h1, h2, h3] = [overlay.host(1), overlay.host(2), overlay.host(3)]
    t.equal((await overlay.status(h1)).backend.port, 7890)
    const capture = await h1.capture('eth0', 'udp')
    const ping = await h1.run('ping', ['-c2', '-i0.1', '-W2', await overlayAddress(h2)])
    t.equal(ping.code, 0)
    // Two pings that a busy daemon reads at once leave as one send, and a veth shows that whole.
    await capture.waitForPackets(2)
    const ports = (await capture.stop()).packets.map(({ bytes }) => {
      const { payload } = parseIpv4(behindEthernet(bytes) ?? bytes)
      return [payload.readUInt16BE(0), payload.readUInt16BE(2)]
    })
    t.ok(ports.length >= 2)
    for (const pair of ports) t.same(pair, [7890, 7890])

    await overlay.configure({ Network: NETWORK, Backend: { Type: 'udp', Port: 8285 } })
    await overlay.start(h3)
    await overlay.ready(h3, 2)
    await until('h1 knows h3', 5000, async () => (await overlay.status(h1)).peers.length === 2)
    const heard = (await overlay.settled(h3)).get('ingress.read')
    t.equal((await h1.run('ping', ['-c2', '-i0.1', '-W1', await overlayAddress(h3)])).code, 1)
    t.equal((await overlay.settled(h3)).get('ingress.read'), heard, 'h3 has heard nothing')
    const back = await h3.run('ping', ['-c2', '-i0.1', '-W1', await overlayAddress(h1)])
    t.equal(back.code, 1)
  },
)

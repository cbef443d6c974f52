import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { loadPcap } from '../../dataplane/index.js'
import { replay } from './replay.js'

const ROOT = repoRoot()
const CAPTURES = join(ROOT, 'fixtures/pcap')
const FOLDER = mkdtempSync(join(tmpdir(), `hdl${process.pid}-replay-`))
t.teardown(() => {
  rmSync(FOLDER, { recursive: true })
})

/** Compiled tests run from a folder below the repository: the package file shows where it begins. */
function repoRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder)
  return folder
}

function file(name: string, content: string | Uint8Array): string {
  const path = join(FOLDER, name)
  writeFileSync(path, content)
  return path
}

class Sink extends Writable {
  text = ''
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString()
    done()
  }
}

async function run(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const stdout = new Sink()
  const stderr = new Sink()
  const code = await replay(argv, { stdout, stderr })
  return { code, out: stdout.text, err: stderr.text }
}

interface Line {
  number?: number
  time?: string
  direction?: string
  verdict?: string
  description?: string
  skipped?: string
  from?: string | null
  out?: { to: string; description: string; bytes: string }[]
  summary?: {
    packets: number
    verdicts: Record<string, number>
    skipped: Record<string, number>
    damage: { code: string; position: number } | null
  }
}

async function runJson(...argv: string[]): Promise<{ code: number; lines: Line[]; err: string }> {
  const { code, out, err } = await run('--json', ...argv)
  const lines = out
    .trim()
    .split('\n')
    .map((text) => JSON.parse(text) as Line)
  return { code, lines, err }
}

const ETHERNET = join(CAPTURES, 'ethernet.pcap')
const RAW = join(CAPTURES, 'raw-nano.pcap')
const VXLAN = join(CAPTURES, 'vxlan.pcap')
const HOST_A = ['--subnet=10.5.1.0/24', '--network=10.5.0.0/16', '--route=10.5.2.0/24=192.0.2.2']
const HOST_B = ['--subnet=10.5.2.0/24', '--public-ip=192.0.2.2']
const VXLAN6 = join(CAPTURES, 'vxlan6.pcap')
const VTEP_B = ['--backend=vxlan', '--mac=0e:00:00:00:01:02']
const ROUTE_A = '--route=10.5.1.0/24=192.0.2.1,0e:00:00:00:01:01'
/** Both families over IPv6. */
const DUAL_B = [
  '--subnet=10.5.2.0/24',
  '--subnet=fd00:5:2::/64',
  '--public-ip=2001:db8::2',
  '--route=10.5.1.0/24=2001:db8::1,0e:00:00:00:01:01',
  '--route=fd00:5:1::/64=[2001:db8::1]:8472,0e:00:00:00:01:01',
]
const DUAL_A = ['--subnet=10.5.1.0/24', '--subnet=fd00:5:1::/64', '--public-ip=2001:db8::1']
/** Ethernet, IP and UDP, before the VXLAN header. */
const OUTER_HEADERS = 42
const OUTER_HEADERS_6 = 62

t.test('an underlay capture is ingress', async (t) => {
  const { code, lines, err } = await runJson(ETHERNET, ...HOST_A, '--public-ip=192.0.2.1')
  t.equal(code, 0)
  t.equal(err, '')
  t.strictSame(lines.at(-1)!.summary, {
    packets: 12,
    verdicts: { 'ingress forward': 5 },
    skipped: {
      'ARP, not IP': 2,
      'a datagram to 192.0.2.2:8285, which is not this host': 5,
    },
    damage: null,
  })
  const first = lines.find((line) => line.verdict === 'forward')!
  t.equal(first.from, '192.0.2.2:8285')
  t.match(first.out, [{ to: 'tun', description: /10\.5\.2\.0 > 10\.5\.1\.0: ICMP echo reply/ }])
  t.equal(first.out!.length, 1)
})

t.test('without the own address every datagram arrives here', async (t) => {
  const { lines } = await runJson(ETHERNET, ...HOST_A)
  t.strictSame(lines.at(-1)!.summary!.verdicts, {
    'ingress drop_not_our_subnet': 5,
    'ingress forward': 5,
  })
})

t.test('a TUN capture is egress', async (t) => {
  const { code, lines } = await runJson(RAW, ...HOST_A)
  t.equal(code, 0)
  const { verdicts, skipped } = lines.at(-1)!.summary!
  t.strictSame(verdicts, { 'egress forward': 5 })
  t.strictSame(Object.values(skipped), [5])
  t.match(lines[0], { number: 1, time: /^2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/ })
  t.strictSame(
    lines[0]!.out!.map((o) => o.to),
    ['192.0.2.2:8285'],
  )
})

t.test('the direction can be told', async (t) => {
  const egress = await runJson(RAW, ...HOST_A, '--direction=egress')
  t.strictSame(egress.lines.at(-1)!.summary!.verdicts, {
    'egress forward': 5,
    'egress drop_loop': 5,
  })
  const ingress = await runJson(RAW, ...HOST_A, '--direction=ingress')
  t.strictSame(ingress.lines.at(-1)!.summary!.verdicts, {})
  const outer = await runJson(ETHERNET, ...HOST_A, '--direction=egress')
  t.strictSame(outer.lines.at(-1)!.summary!.verdicts, { 'egress drop_no_route': 10 })
})

t.test("no route: the sender gets ICMP 3/0 from the subnet's base address", async (t) => {
  const { lines } = await runJson(RAW, '--subnet=10.5.1.0/24')
  const [out] = lines[0]!.out!
  t.equal(lines[0]!.verdict, 'drop_no_route')
  t.equal(out!.to, 'icmp')
  const bytes = Buffer.from(out!.bytes, 'hex')
  t.strictSame(
    [...bytes.subarray(9, 10), ...bytes.subarray(12, 22)],
    [1, 10, 5, 1, 0, 10, 5, 1, 0, 3, 0],
  )
})

t.test('a capture of kernel VXLAN devices: each frame to host B', async (t) => {
  const { code, lines, err } = await runJson(VXLAN, ...HOST_B, ...VTEP_B, ROUTE_A)
  t.equal(code, 0)
  t.equal(err, '')
  t.strictSame(lines.at(-1)!.summary, {
    packets: 24,
    verdicts: {
      // Pings, a fragmented one, UDP, TCP, VXLAN within the overlay, and the last ping.
      'ingress forward': 8,
      'ingress drop_vxlan_vni': 1,
      'ingress drop_vxlan_mac': 1,
      'ingress neighbour_answered': 1,
      'ingress drop_vxlan_group': 2,
    },
    skipped: {
      'a datagram to 192.0.2.1:8472, which is not this host': 9,
      'a fragment of an outer datagram': 2,
    },
    damage: null,
  })
  const [first] = lines
  t.equal(first!.verdict, 'forward')
  t.match(first!.description, /vni 1: 0e:00:00:00:01:01 > 0e:00:00:00:01:02, .*10\.5\.1\.0 >/i)
  t.match(first!.out, [
    { to: 'tun', description: /^IP 10\.5\.1\.0 > 10\.5\.2\.0: ICMP echo request/ },
  ])
})

t.test('who has 10.5.2.0: the answer is the one the kernel gave', async (t) => {
  const { lines } = await runJson(VXLAN, ...HOST_B, ...VTEP_B, ROUTE_A)
  const asked = lines.findIndex((line) => line.verdict === 'neighbour_answered')
  const [answer] = lines[asked]!.out!
  t.equal(answer!.to, '192.0.2.1:8472')
  const { records } = await loadPcap(VXLAN)
  const replyOfKernel = [...records][asked + 1]!.bytes
  t.equal(answer!.bytes, Buffer.from(replyOfKernel.subarray(OUTER_HEADERS)).toString('hex'))
})

t.test('ipip: what one host sends is what the other takes', async (t) => {
  const wire = join(FOLDER, 'ipip.pcap')
  const sent = await runJson(RAW, '--backend=ipip', '--public-ip=192.0.2.1', ...HOST_A, '-w', wire)
  t.equal(sent.code, 0)
  const out = sent.lines.flatMap((line) => line.out ?? []).filter(({ to }) => to === '192.0.2.2')
  t.ok(out.length >= 5)
  t.match(out[0]!.description, /^IP 10\.5\.1\.\d+ > 10\.5\.2\.\d+: /, 'the inner packet')
  t.match(out[0]!.bytes, /^45/)

  const b = ['--subnet=10.5.2.0/24', '--route=10.5.1.0/24=192.0.2.1', '--ingress-check=strict']
  const arrival = ['--backend=ipip', '--direction=ingress', '--public-ip=192.0.2.2', ...b]
  const { code, lines } = await runJson(wire, ...arrival)
  t.equal(code, 0)
  const taken = lines.filter(({ verdict }) => verdict === 'forward')
  t.equal(taken.length, out.length)
  for (const [i, line] of taken.entries()) {
    t.equal(line.from, '192.0.2.1')
    t.equal(line.description, out[i]!.description)
    t.equal(line.out![0]!.description, out[i]!.description)
  }
  const elsewhere = await runJson(wire, ...arrival, '--public-ip=192.0.2.3')
  const skipped = elsewhere.lines.at(-1)!.summary!.skipped
  t.equal(skipped['a packet to 192.0.2.2, which is not this host'], out.length)
  const udp = await runJson(ETHERNET, ...arrival)
  t.ok(udp.lines.at(-1)!.summary!.skipped['not IPv4 in IPv4 (protocol 4)'])
})

/**
 * A VXLAN packet with the checksum of inner UDP or TCP zeroed: a kernel whose peer is on the same machine
 * leaves it unfinished, and the engine finishes it.
 */
function withoutChecksum(vxlan: Uint8Array): string {
  const bytes = Uint8Array.from(vxlan)
  const at = { 6: 58, 17: 48 }[bytes[31] ?? 0]
  if (at !== undefined) bytes.fill(0, at, at + 2)
  return Buffer.from(bytes).toString('hex')
}

t.test('what came in by VXLAN goes out as the kernel sent it', async (t) => {
  const inner = join(FOLDER, 'inner.pcap')
  t.equal((await run(VXLAN, ...HOST_B, ...VTEP_B, ROUTE_A, '-w', inner)).code, 0)
  const { records } = await loadPcap(VXLAN)
  const kernel = [...records].map(({ bytes }) => withoutChecksum(bytes.subarray(OUTER_HEADERS)))
  const asA = ['--subnet=10.5.1.0/24', '--backend=vxlan', '--mac=0e:00:00:00:01:01']
  const toB = '--route=10.5.2.0/24=192.0.2.2:4789,0e:00:00:00:01:02'
  const { lines } = await runJson(inner, ...asA, toB)
  const sent = lines.flatMap((line) => line.out ?? []).filter((out) => out.to !== 'icmp')
  t.equal(sent.length, 8)
  for (const { to, bytes, description } of sent) {
    t.equal(to, '192.0.2.2:4789')
    t.match(description, /vni 1: 0e:00:00:00:01:01 > 0e:00:00:00:01:02/)
    t.ok(kernel.includes(withoutChecksum(Buffer.from(bytes, 'hex'))), description)
  }
})

t.test('both families over IPv6, at both ports of VXLAN', async (t) => {
  const all = await runJson(VXLAN6, ...DUAL_B, ...VTEP_B, '--ingress-check=strict')
  t.equal(all.code, 0)
  t.strictSame(all.lines.at(-1)!.summary, {
    packets: 19,
    // Of IPv4 one ping; of IPv6 pings, a fragmented one, UDP, TCP, and the last ping.
    verdicts: {
      'ingress forward': 8,
      'ingress drop_vxlan_vni': 1,
      'ingress neighbour_answered': 1,
    },
    skipped: {
      'a datagram to [2001:db8::1]:8472, which is not this host': 8,
      'a datagram to [2001:db8::1]:4789, which is not this host': 1,
    },
    damage: null,
  })
  t.equal(all.lines.find((line) => line.verdict === 'drop_vxlan_vni')!.number, 14)
  const asked = all.lines.findIndex((line) => line.verdict === 'neighbour_answered')
  t.equal(all.lines[asked]!.out![0]!.to, '[2001:db8::1]:8472')

  const told = await runJson(VXLAN6, ...DUAL_B, ...VTEP_B, '--port=8472')
  t.equal(told.lines.at(-1)!.summary!.verdicts['ingress drop_vxlan_vni'], undefined)
  t.equal(told.lines.at(-1)!.summary!.skipped['UDP to port 4789, not 8472'], 2)
  const other = await runJson(
    VXLAN6,
    '--subnet=fd00:6:2::/64',
    '--backend=vxlan',
    '--vni=2',
    '--mac=0e:00:00:00:02:02',
    '--port=4789',
    '--public-ip=2001:db8::2',
  )
  t.strictSame(other.lines.at(-1)!.summary!.verdicts, { 'ingress forward': 1 })
})

t.test('without an own IPv6 subnet there is no IPv6', async (t) => {
  const { lines } = await runJson(VXLAN6, '--subnet=10.5.2.0/24', ...VTEP_B)
  const { verdicts } = lines.at(-1)!.summary!
  t.equal(verdicts['ingress forward'], 1)
  t.equal(verdicts['ingress drop_ipv6_unsupported'], 7)
})

t.test('-w over IPv6: the datagrams are those of the kernel, as tshark reads them', async (t) => {
  const inner = join(FOLDER, 'inner6.pcap')
  const outer = join(FOLDER, 'outer6.pcap')
  t.equal((await run(VXLAN6, ...DUAL_B, ...VTEP_B, '-w', inner)).code, 0)
  const asA = [...DUAL_A, '--backend=vxlan', '--mac=0e:00:00:00:01:01', '--network=fd00:5::/32']
  const toB = ['10.5.2.0/24', 'fd00:5:2::/64'].map(
    (subnet) => `--route=${subnet}=2001:db8::2,0e:00:00:00:01:02`,
  )
  t.equal((await run(inner, ...asA, ...toB, '-w', outer)).code, 0)
  const fields = ['ipv6.src', 'ipv6.dst', 'udp.dstport', 'udp.checksum.status', 'vxlan.vni']
  const read = execFileSync(
    'tshark',
    ['-n', '-r', outer, '-d', 'udp.port==8472,vxlan', '-o', 'udp.check_checksum:TRUE'].concat(
      ['-E', 'occurrence=f', '-T', 'fields', '-Y', 'vxlan and ipv6.src==2001:db8::1'],
      fields.flatMap((field) => ['-e', field]),
    ),
    { encoding: 'utf8', stdio: 'pipe' },
  )
  const sent = read.trim().split('\n')
  t.equal(sent.length, 8)
  for (const line of sent) t.equal(line, '2001:db8::1\t2001:db8::2\t8472\t1\t1')

  const { records } = await loadPcap(VXLAN6)
  const kernel = [...records].map(({ bytes }) => bytes.subarray(OUTER_HEADERS_6))
  const { lines } = await runJson(inner, ...asA, ...toB)
  const echoes = lines
    .flatMap((line) => line.out ?? [])
    .filter(({ description }) => description.includes('echo request'))
  t.equal(echoes.length, 5)
  for (const { bytes } of echoes) t.ok(kernel.some((k) => Buffer.from(k).toString('hex') === bytes))
  const noRoute = await runJson(inner, ...asA)
  // With the neighbour's answer, which is an outer packet.
  t.equal(noRoute.lines.at(-1)!.summary!.verdicts['egress drop_no_route'], 9)
  const unreachable = noRoute.lines.flatMap((line) => line.out ?? [])
  t.match(
    unreachable.map(({ description }) => description).join('\n'),
    /IP6 fd00:5:1:: > fd00:5:1::: ICMP6, unreachable, no route/,
  )
})

t.test('packets of a TUN capture for the own IPv6 subnet are deliveries', async (t) => {
  const inner = join(FOLDER, 'deliveries.pcap')
  t.equal((await run(VXLAN6, ...DUAL_B, ...VTEP_B, '-w', inner)).code, 0)
  const { lines } = await runJson(inner, '--subnet=10.5.2.0/24', '--subnet=fd00:5:2::/64')
  // The neighbour's answer is an outer packet.
  t.strictSame(lines.at(-1)!.summary!.verdicts, { 'egress drop_no_route': 1 })
  t.strictSame(Object.values(lines.at(-1)!.summary!.skipped), [8])
})

t.test('both families in a configuration file', async (t) => {
  const config = file(
    'host-b.json',
    JSON.stringify({
      network: '10.5.0.0/16',
      subnet: '10.5.2.0/24',
      ipv6Network: 'fd00:5::/32',
      ipv6Subnet: 'fd00:5:2::/64',
      publicIP: '2001:db8::2',
      routes: {
        '10.5.1.0/24': '[2001:db8::1],0e:00:00:00:01:01',
        'fd00:5:1::/64': '2001:db8::1,0e:00:00:00:01:01',
      },
    }),
  )
  const strict = '--ingress-check=strict'
  const { lines, err } = await runJson(VXLAN6, ...VTEP_B, strict, `--config=${config}`)
  t.equal(err, '')
  t.equal(lines.at(-1)!.summary!.verdicts['ingress forward'], 8)
})

t.test('VXLAN of another identifier, and strict sources', async (t) => {
  const other = await runJson(VXLAN, ...HOST_B, ...VTEP_B, '--vni=2', '--mac=0e:00:00:00:02:02')
  t.equal(other.lines.at(-1)!.summary!.verdicts['ingress drop_vxlan_vni'], 12)
  const strict = await runJson(VXLAN, ...HOST_B, ...VTEP_B, '--ingress-check=strict')
  t.strictSame(strict.lines.at(-1)!.summary!.verdicts['ingress drop_source_unknown'], 9)
  const lax = await runJson(VXLAN, ...HOST_B, ...VTEP_B, ROUTE_A, '--ingress-check=strict')
  t.equal(lax.lines.at(-1)!.summary!.verdicts['ingress forward'], 8)
})

t.test('text', async (t) => {
  const { code, out } = await run(ETHERNET, ...HOST_A, '--public-ip=192.0.2.1')
  t.equal(code, 0)
  const lines = out.split('\n')
  t.match(lines[0], /^ +1 {2}2\S+\.\d{6}Z {2}skipped: ARP, not IP$/)
  t.match(
    lines[3],
    /^ +4 {2}\S+ {2}ingress {2}forward {2}from 192\.0\.2\.2:8285: IP 10\.5\.2\.0 > 10\.5\.1\.0/,
  )
  t.match(lines[4], /^ +-> tun: IP 10\.5\.2\.0 > 10\.5\.1\.0/)
  t.match(out, /\n12 packets\n {2}ingress forward: 5\n {2}skipped, ARP, not IP: 2\n/)
})

t.test("a port of one's own", async (t) => {
  const { lines } = await runJson(ETHERNET, ...HOST_A, '--port=4789')
  t.strictSame(lines.at(-1)!.summary!.verdicts, {})
  t.equal(lines.at(-1)!.summary!.skipped['UDP to port 8285, not 4789'], 10)
  const egress = await runJson(RAW, ...HOST_A, '--port=4789')
  t.equal(egress.lines[0]!.out![0]!.to, '192.0.2.2:4789')
  const route = await runJson(RAW, HOST_A[0]!, '--route=10.5.2.0/24=192.0.2.2:99')
  t.equal(route.lines[0]!.out![0]!.to, '192.0.2.2:99')
})

t.test('a configuration file, and flags that win over it', async (t) => {
  const config = file(
    'host-a.json',
    JSON.stringify({
      network: '10.5.0.0/16',
      subnet: '10.5.1.0/24',
      publicIP: '192.0.2.1',
      mtu: 1400,
      routes: { '10.5.2.0/24': '192.0.2.9', '10.5.3.0/24': '192.0.2.3' },
    }),
  )
  const { lines } = await runJson(ETHERNET, `--config=${config}`)
  // One of the two replies is a fragment of 1468 bytes.
  t.strictSame(lines.at(-1)!.summary!.verdicts, {
    'ingress forward': 4,
    'ingress drop_oversize': 1,
  })
  const to = async (...more: string[]): Promise<string> =>
    (await runJson(RAW, `--config=${config}`, ...more)).lines[0]!.out![0]!.to
  t.equal(await to(), '192.0.2.9:8285')
  t.equal(await to('--route=10.5.2.0/24=192.0.2.2'), '192.0.2.2:8285')
  t.equal(await to('--port=1'), '192.0.2.9:1')
})

t.test('-w: what comes out, as tshark reads it', async (t) => {
  const out = join(FOLDER, 'out.pcap')
  const fields = ['frame.time_epoch', 'ip.src', 'ip.dst', 'udp.dstport', 'ip.ttl']
  const read = (path: string, ...args: string[]): string[] =>
    execFileSync(
      'tshark',
      [
        '-n',
        '-r',
        path,
        '-E',
        'occurrence=f',
        '-T',
        'fields',
        ...fields.flatMap((f) => ['-e', f]),
        ...args,
      ],
      { encoding: 'utf8', stdio: 'pipe' },
    )
      .trim()
      .split('\n')

  t.equal((await run(RAW, ...HOST_A, '--public-ip=192.0.2.1', '-w', out)).code, 0)
  const sent = read(out)
  const times = read(RAW, '-Y', 'ip.src==10.5.1.0 and not icmp.type==3').map(
    (line) => line.split('\t')[0],
  )
  t.strictSame(
    sent,
    times.map((time) => `${time}\t192.0.2.1\t192.0.2.2\t8285\t64`),
  )

  t.equal((await run(ETHERNET, ...HOST_A, '--public-ip=192.0.2.1', '-w', out)).code, 0)
  const delivered = read(out)
  t.equal(delivered.length, 5)
  for (const line of delivered) t.match(line, /\t10\.5\.2\.0\t10\.5\.1\.0\t\d*\t63$/)
})

t.test('-w does not overwrite what is read', async (t) => {
  const path = file('both.pcap', readFileSync(RAW))
  const { code, err } = await run(path, ...HOST_A, '-w', join(FOLDER, '.', 'both.pcap'))
  t.equal(code, 2)
  t.match(err, /is the capture that is read/)
  t.strictSame(readFileSync(path), readFileSync(RAW))
})

t.test('a damaged capture: first what is readable, then the position', async (t) => {
  const whole = readFileSync(RAW)
  const path = file('cut.pcap', whole.subarray(0, 24 + 16 + 84 + 16 + 50))
  const { code, out, err } = await run(path, ...HOST_A)
  t.equal(code, 1)
  t.match(out, /^ +1 .*egress {2}forward/)
  t.match(out, /1 packets before the damage/)
  t.match(
    err,
    /^heddle replay: \S+cut\.pcap: byte 124: a record of 16 \+ 84 bytes .* only 66 more\n$/,
  )
  const { lines } = await runJson(path, ...HOST_A)
  t.match(lines.at(-1)!.summary!.damage, { code: 'PCAP_TRUNCATED', position: 124 })
})

t.test('files that cannot be used', async (t) => {
  const header = 'd4c3b2a1020004000000000000000000000004006900000000'.slice(0, 48)
  const cases = [
    { name: 'not there', args: ['/nonexistent.pcap'], want: /nonexistent\.pcap: ENOENT/ },
    { name: 'a folder', args: [FOLDER], want: /EISDIR/ },
    { name: 'empty', args: [file('empty.pcap', '')], want: /byte 0: the file is empty/ },
    {
      name: 'pcapng',
      args: [file('x.pcapng', Buffer.from('0a0d0d0a1c000000', 'hex'))],
      want: /editcap -F pcap/,
    },
    {
      name: 'link type',
      args: [file('wifi.pcap', Buffer.from(header, 'hex'))],
      want: /link type 105 is not known/,
    },
    {
      name: 'output',
      args: [RAW, '-w', '/nonexistent/out.pcap'],
      want: /nonexistent\/out\.pcap: ENOENT/,
    },
  ]
  for (const c of cases) {
    const { code, out, err } = await run(...c.args, ...HOST_A)
    t.equal(code, 1, c.name)
    t.equal(out, '', c.name)
    t.match(err, c.want, c.name)
  }
})

t.test('wrong arguments: exit 2 and a message that names them', async (t) => {
  const bad = (name: string, content: string): string => `--config=${file(name, content)}`
  const S = '--subnet=10.5.1.0/24'
  const S6 = '--subnet=fd00:5:1::/64'
  const cases: [string[], RegExp][] = [
    [[], /no capture is named/],
    [[RAW], /give --subnet/],
    [[RAW, ETHERNET, S], /one capture at a time/],
    [[RAW, S, '--frobnicate'], /frobnicate/],
    [[RAW, S, '--json=yes'], /json/],
    [[RAW, '--subnet'], /subnet/],
    [
      [RAW, S, '--backend=wireguard'],
      /wireguard is not built into replay yet; .*udp, vxlan and ipip/,
    ],
    [[RAW, S, '--backend=ipip', '--port=4'], /--port: ipip has no ports/],
    [[RAW, S, '--backend=ipip', '--vni=1'], /--vni is for --backend=vxlan/],
    [[RAW, S, '--backend=ipip', '--route=10.5.3.0/24=1.2.3.4:5'], /"1\.2\.3\.4:5" is not an IP/],
    [[RAW, S6, '--backend=ipip'], /--backend=ipip carries IPv4 in IPv4 alone/],
    [[RAW, S, '--backend=ipip', '--public-ip=fd00::1'], /IPv4 in IPv4 alone/],
    [[RAW, S, '--backend=vxlan'], /give --mac=MAC, as ip link show/],
    [[RAW, S, '--vni=1'], /--vni is for --backend=vxlan/],
    [[RAW, S, '--mac=0e:00:00:00:00:01'], /--mac is for --backend=vxlan/],
    [[RAW, S, '--backend=vxlan', '--mac=01:00:00:00:00:01'], /--mac: .* of a station/],
    [[RAW, S, '--backend=vxlan', '--mac=0e:00'], /--mac: "0e:00" is not the MAC address/],
    [[RAW, S, ...VTEP_B, '--vni=16777216'], /--vni: 16777216 .* 0\.\.16777215/],
    [[RAW, S, ...VTEP_B, '--route=10.5.3.0/24=1.2.3.4'], /write HOST,MAC/],
    [[RAW, S, ...VTEP_B, '--route=10.5.3.0/24=1.2.3.4,ff:ff:ff:ff:ff:ff'], /of a station/],
    [[RAW, S, ...VTEP_B, '--route=10.5.3.0/24=1.2.3.4:0,0e:00:00:00:00:01'], /within 1\.\.65535/],
    [[RAW, S, '--route=10.5.3.0/24=1.2.3.4,0e:00:00:00:00:01'], /not an IP address/],
    [[RAW, S, '--backend=gre'], /gre is no backend/],
    [[RAW, S, '--direction=up'], /egress, ingress, auto/],
    [[RAW, '--subnet=10.5.1.7/24'], /host bits set; write 10\.5\.1\.0\/24/],
    [[RAW, '--subnet=10.5.1/24'], /--subnet: "10\.5\.1\/24"/],
    [[RAW, '--subnet=10.5.1.0/33'], /not a prefix such as/],
    [
      [RAW, S, '--network=10.6.0.0/16'],
      /10\.5\.1\.0\/24 is not within the network 10\.6\.0\.0\/16/,
    ],
    [[RAW, S, '--network=10.5.1.0/25'], /not within/],
    [[RAW, S, '--route=10.5.2.0/24'], /not SUBNET=HOST/],
    [[RAW, S, '--route=10.5.2.0/24=a=b'], /not SUBNET=HOST/],
    [[RAW, S, '--route=10.5.2.0/24=host'], /"host" is not an IP address/],
    [[RAW, S, '--route=10.5.2.0/24=1.2.3.4:5:6'], /not an IP address/],
    [[RAW, S, '--route=10.5.2.0/24=1.2.3.4:0'], /0 is not a whole number within 1\.\.65535/],
    [[RAW, S, '--route=10.5.1.0/24=1.2.3.4'], /is the own subnet/],
    [[RAW, S, '--network=10.5.0.0/16', '--route=10.6.0.0/24=1.2.3.4'], /not within/],
    [[RAW, S, '--route=10.5.2.0/24=1.2.3.4', '--route=10.5.2.0/24=1.2.3.5'], /a host already/],
    [[RAW, S, '--public-ip=::g'], /--public-ip: "::g" is not an IP address/],
    [[RAW, S, '--subnet=10.5.2.0/24'], /--subnet: 10\.5\.2\.0\/24 is a second one of IPv4/],
    [[RAW, S6, '--subnet=fd00:5:3::/64'], /is a second one of IPv6/],
    [[RAW, '--subnet=fd00:5::1/64'], /host bits set; write fd00:5::\/64/],
    [[RAW, S6, '--network=fd00:6::/32'], /fd00:5:1::\/64 is not within the network fd00:6::\/32/],
    [[RAW, S, '--route=fd00:5:2::/64=1.2.3.4'], /is IPv6, and no own IPv6 subnet is given/],
    [[RAW, S6, '--route=10.5.2.0/24=1.2.3.4'], /is IPv4, and no own IPv4 subnet is given/],
    [[RAW, S6, '--route=fd00:5:1:0::/64=1.2.3.4'], /fd00:5:1::\/64 is the own subnet/],
    [[RAW, S, '--route=10.5.2.0/24=[::1]:0'], /0 is not a whole number within 1\.\.65535/],
    [[RAW, S, '--route=10.5.2.0/24=[1.2.3.4]:5'], /not an IP address/],
    [[RAW, S, '--route=10.5.2.0/24=[::1'], /not an IP address/],
    [[RAW, S, '--route=10.5.2.0/24=::1%lo'], /not an IP address/],
    [
      [RAW, S, '--public-ip=::1', '--route=10.5.2.0/24=1.2.3.4'],
      /the host of 10\.5\.2\.0\/24 is not IPv6 as --public-ip is/,
    ],
    [
      [RAW, S, '--route=10.5.2.0/24=1.2.3.4', '--route=10.5.3.0/24=::1'],
      /the host of 10\.5\.3\.0\/24 is not IPv4 as another host is/,
    ],
    [[RAW, S6, '--mtu=1279'], /--mtu: 1279 .* 1280\.\.65535/],
    [[RAW, bad('g.json', '{"subnet": "fd00::/64"}')], /fd00::\/64 is IPv6; name it ipv6Subnet/],
    [[RAW, S, bad('h.json', '{"ipv6Network": "10.5.0.0/16"}')], /is IPv4; name it network/],
    [[RAW, S, '--port=70000'], /--port: 70000/],
    [[RAW, S, '--port=0x1'], /--port: 0x1/],
    [[RAW, S, '--mtu=67'], /--mtu: 67 .* 68\.\.65535/],
    [[RAW, S, '--config=/nonexistent.json'], /nonexistent\.json cannot be read/],
    [[RAW, bad('a.json', '{')], /a\.json cannot be read/],
    [[RAW, bad('b.json', '[]')], /b\.json/],
    [[RAW, bad('c.json', '{"subnet": 5}')], /c\.json: subnet/],
    [[RAW, bad('d.json', '{"subnets": "10.5.1.0/24"}')], /d\.json.*subnets/],
    [
      [RAW, S, bad('e.json', '{"routes": {"10.5.2.0": "1.2.3.4"}}')],
      /route 10\.5\.2\.0 of --config/,
    ],
    [[RAW, S, bad('f.json', '{"port": 1.5}')], /--port: 1\.5/],
  ]
  for (const [args, want] of cases) {
    const { code, out, err } = await run(...args)
    t.equal(code, 2, args.slice(1).join(' '))
    t.equal(out, '')
    t.match(err, want)
    t.match(err, /^heddle replay: .*\nheddle replay --help/, 'one line, and where to look')
  }
})

t.test('help', async (t) => {
  const { code, out, err } = await run('--help')
  t.equal(code, 0)
  t.equal(err, '')
  for (const flag of [
    'backend',
    'direction',
    'network',
    'subnet',
    'route',
    'config',
    'write',
    'json',
    'port',
    'mtu',
    'public-ip',
    'vni',
    'mac',
  ]) {
    t.match(out, new RegExp(`--${flag}\\b`))
  }
})

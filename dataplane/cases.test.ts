/**
 * Golden cases: every folder of fixtures/cases through the engine, on captures as devices. What
 * comes out must be equal byte for byte, and so must the counters.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ipaddr from 'ipaddr.js'
import t from 'tap'
import { parseAddress4 } from './address.js'
import { Counters, COUNTERS_BYTES, describeCounters, DIRECTIONS } from './counters.js'
import { createEncap, type EncapChoice } from './encap/choice.js'
import { UDP_PORT } from './encap/flannel-udp.js'
import { VXLAN_PORT } from './encap/vxlan.js'
import { NO_INGRESS_CHECK } from './ingress-check.js'
import { createEngineArena, Engine } from './engine.js'
import { createFib, type LpmWriter } from './fib/lpm-writer.js'
import { attachFibReader } from './fib/lpm.js'
import { createHopTable } from './fib/nexthop.js'
import { CaptureInside, CaptureOutside, type Frames } from './io/capture-device.js'
import { datagramOf } from './io/capture-frame.js'
import { describeEndpoint } from './io/endpoint.js'
import { MemoryRaw } from './io/memory.js'
import { loadPcap } from './io/pcap.js'
import { LINKTYPE_RAW } from './io/pcap-format.js'
import { parseMac } from './mac.js'
import { NO_OFFLOAD } from './offload/offload.js'
import { createPlainSums } from './offload/sums.js'

const CASES = join(repoRoot(), 'fixtures/cases')
const DEFAULT_MTU = 1472

/** Compiled tests run from a folder below the repository: the package file shows where it begins. */
function repoRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder)
  return folder
}

/** As `heddle replay --config` reads it; a host with a MAC address has the `vxlan` backend. */
interface Config {
  readonly subnet: string
  readonly ipv6Subnet?: string
  readonly mtu?: number
  readonly vni?: number
  readonly mac?: string
  readonly routes: Readonly<Record<string, string>>
}

type Verdicts = Readonly<Record<string, number>>
interface CaseCounters {
  readonly egress: Verdicts
  readonly ingress: Verdicts
}

interface Output {
  readonly tun: string[]
  readonly udp: string[]
  readonly icmp: string[]
  readonly counters: CaseCounters
}

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const readJson = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'))

async function framesOf(path: string): Promise<Frames> {
  if (!existsSync(path)) return { linkType: LINKTYPE_RAW, records: [] }
  const { header, records, damage } = await loadPcap(path)
  if (damage !== null) throw damage
  if (header.linkType !== LINKTYPE_RAW) throw new Error(`${path} is not raw IP`)
  return { linkType: header.linkType, records }
}

/** Enters a prefix of either family. */
function insert(writer: LpmWriter, prefix: string, hop: number): void {
  const [address = '', len] = prefix.split('/')
  const v4 = parseAddress4(address)
  if (v4 !== null) writer.insert4(v4, Number(len), hop)
  else writer.insert6(new Uint8Array(ipaddr.parse(address).toByteArray()), Number(len), hop)
}

/** Runs a case to its end. */
async function run(folder: string): Promise<Output> {
  const config = readJson(join(folder, 'config.json')) as Config
  const mtu = config.mtu ?? DEFAULT_MTU
  const choice: EncapChoice =
    config.mac === undefined
      ? { kind: 'udp' }
      : { kind: 'vxlan', vni: config.vni ?? 1, mac: parseMac(config.mac)! }
  const port = choice.kind === 'udp' ? UDP_PORT : VXLAN_PORT
  const fib = createFib({ readers: 1 })
  const local = fib.hops.addLocal()
  insert(fib.writer, config.subnet, local)
  if (config.ipv6Subnet !== undefined) insert(fib.writer, config.ipv6Subnet, local)
  for (const [prefix, text] of Object.entries(config.routes)) {
    const [host = '', mac = ''] = text.split(',')
    const hop = fib.hops.addPeer(parseAddress4(host)!, port, parseMac(mac) ?? undefined)
    insert(fib.writer, prefix, hop)
  }
  const hops = createHopTable(fib.shared)
  const encap = createEncap(choice, hops)
  const arena = createEngineArena(mtu, encap, NO_OFFLOAD)
  const tun: string[] = []
  const udp: string[] = []
  const raw = new MemoryRaw(arena)
  const counters = new Counters(new ArrayBuffer(COUNTERS_BYTES))
  const engine = new Engine({
    arena,
    inside: new CaptureInside(arena, await framesOf(join(folder, 'tun-in.pcap')), (packet) => {
      tun.push(hexOf(packet))
    }),
    outside: new CaptureOutside(
      arena,
      await framesOf(join(folder, 'udp-in.pcap')),
      port,
      ({ bytes, to }) => {
        udp.push(`${describeEndpoint(to)} ${hexOf(bytes)}`)
      },
    ),
    icmp: raw,
    fib: attachFibReader(fib.shared, 0),
    hops,
    encap,
    ...(choice.kind === 'vxlan' ? { vtep: { ...choice, port } } : {}),
    hasIpv6: config.ipv6Subnet !== undefined,
    ingressCheck: NO_INGRESS_CHECK,
    offload: NO_OFFLOAD,
    sums: createPlainSums(),
    counters,
    mtu,
    localAddress: parseAddress4(config.subnet.replace(/\/.*/, '')),
    now: () => 0,
  })
  while (engine.breath() > 0);
  const report = describeCounters([counters])
  const seen = (direction: (typeof DIRECTIONS)[number]): Verdicts =>
    Object.fromEntries(
      Object.entries(report[direction].verdicts)
        .map(([name, { packets }]) => [name, packets] as const)
        .filter(([, packets]) => packets > 0),
    )
  for (const direction of DIRECTIONS) {
    const sum = Object.values(seen(direction)).reduce((a, b) => a + b, 0)
    if (sum !== report[direction].read)
      throw new Error(`${direction}: ${sum} of ${report[direction].read}`)
  }
  return {
    tun,
    udp,
    icmp: raw.drain().map(({ bytes }) => hexOf(bytes)),
    counters: { egress: seen('egress'), ingress: seen('ingress') },
  }
}

/** What a case says must come out. */
async function wanted(folder: string): Promise<Output> {
  const packets = async (file: string): Promise<Uint8Array[]> =>
    [...(await framesOf(join(folder, file))).records].map((record) => record.bytes)
  return {
    tun: (await packets('tun-out.pcap')).map(hexOf),
    udp: (await packets('udp-out.pcap')).map((packet) => {
      const datagram = datagramOf(packet, 0)
      if ('reason' in datagram) throw new Error(datagram.reason)
      return `${describeEndpoint(datagram.found.to)} ${hexOf(datagram.found.payload)}`
    }),
    icmp: (await packets('icmp-out.pcap')).map(hexOf),
    counters: readJson(join(folder, 'counters.json')) as CaseCounters,
  }
}

const folders = readdirSync(CASES, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name)
  .sort()

t.ok(folders.length >= 7, `${folders.length} cases`)
for (const name of folders) {
  t.test(name, async (t) => {
    const folder = join(CASES, name)
    const want = await wanted(folder)
    const got = await run(folder)
    t.strictSame(got.counters, want.counters, 'counters')
    t.strictSame(got.udp, want.udp, 'datagrams sent')
    t.strictSame(got.tun, want.tun, 'packets delivered')
    t.strictSame(got.icmp, want.icmp, 'ICMP errors')
  })
}

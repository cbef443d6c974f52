/**
 * Golden cases: every folder of fixtures/cases through the engine, on captures as devices. What
 * comes out must be equal byte for byte, and so must the counters.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parseAddress4 } from './address.js'
import { Counters, COUNTERS_BYTES, describeCounters, DIRECTIONS } from './counters.js'
import { flannelUdp, UDP_PORT } from './encap/flannel-udp.js'
import { NO_INGRESS_CHECK } from './ingress-check.js'
import { createEngineArena, Engine } from './engine.js'
import { createFib } from './fib/lpm-writer.js'
import { attachFibReader } from './fib/lpm.js'
import { createHopTable } from './fib/nexthop.js'
import { CaptureInside, CaptureOutside, type Frames } from './io/capture-device.js'
import { datagramOf } from './io/capture-frame.js'
import { describeEndpoint } from './io/endpoint.js'
import { MemoryRaw } from './io/memory.js'
import { loadPcap } from './io/pcap.js'
import { LINKTYPE_RAW } from './io/pcap-format.js'
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

interface Config {
  readonly subnet: string
  readonly mtu?: number
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

function splitPrefix(text: string): { addr: number; len: number } {
  const [address = '', len] = text.split('/')
  return { addr: parseAddress4(address)!, len: Number(len) }
}

/** Runs a case to its end. */
async function run(folder: string): Promise<Output> {
  const config = readJson(join(folder, 'config.json')) as Config
  const mtu = config.mtu ?? DEFAULT_MTU
  const fib = createFib({ readers: 1 })
  const subnet = splitPrefix(config.subnet)
  fib.writer.insert4(subnet.addr, subnet.len, fib.hops.addLocal())
  for (const [prefix, host] of Object.entries(config.routes)) {
    const { addr, len } = splitPrefix(prefix)
    fib.writer.insert4(addr, len, fib.hops.addPeer(parseAddress4(host)!, UDP_PORT))
  }
  const arena = createEngineArena(mtu, flannelUdp, NO_OFFLOAD)
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
      UDP_PORT,
      ({ bytes, to }) => {
        udp.push(`${describeEndpoint(to)} ${hexOf(bytes)}`)
      },
    ),
    icmp: raw,
    fib: attachFibReader(fib.shared, 0),
    hops: createHopTable(fib.shared),
    encap: flannelUdp,
    hasIpv6: false,
    ingressCheck: NO_INGRESS_CHECK,
    offload: NO_OFFLOAD,
    sums: createPlainSums(),
    counters,
    mtu,
    localAddress: subnet.addr,
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

t.ok(folders.length >= 4, `${folders.length} cases`)
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

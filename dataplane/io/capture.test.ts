import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import t from 'tap'
import { NAME_SIZE } from '../fib/nexthop.js'
import { createArena } from '../packet/arena.js'
import { Batch } from '../packet/batch.js'
import { Entries } from '../packet/entries.js'
import { HEADROOM } from '../packet/layout.js'
import { CaptureInside, CaptureOutside } from './capture-device.js'
import { datagramOf, isKnownLinkType, packetOf, wrapDatagram } from './capture-frame.js'
import {
  describeEndpoint,
  EINVAL,
  encodeName,
  endpoint4,
  endpoint6,
  isSameEndpoint,
} from './endpoint.js'
import type { SentDatagram } from './memory.js'
import { loadPcap } from './pcap.js'
import { LINKTYPE_RAW, type PcapRecord } from './pcap-format.js'
import { PcapWriter } from './pcap-writer.js'

const FIXTURES = join(repoRoot(), 'fixtures/pcap')

/** Compiled tests run from a folder below the repository: the package file shows where it begins. */
function repoRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder)
  return folder
}

const hex = (text: string): Uint8Array =>
  Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'))

/** What was found, or a failure. */
function found<T>(answer: { found: T } | { reason: string }): T {
  if ('reason' in answer) throw new Error(answer.reason)
  return answer.found
}

const HOST_A = endpoint4(0xc0000201, 8285)
const HOST_B = endpoint4(0xc0000202, 8285)

for (const file of ['ethernet.pcap', 'sll.pcap', 'sll2.pcap']) {
  t.test(
    `${file}: the datagrams carry the packets that the kernel routed to the TUN`,
    async (t) => {
      const tun = (await loadPcap(join(FIXTURES, 'raw-nano.pcap'))).records.map((r) => r.bytes)
      const { header, records } = await loadPcap(join(FIXTURES, file))
      const datagrams = records.flatMap((r) => {
        const packet = packetOf(header.linkType, r.bytes)
        return 'reason' in packet ? [] : [found(datagramOf(packet.found, 8285))]
      })
      const skipped = records.length - datagrams.length
      t.equal(skipped, 2, 'the ARP request and reply')
      for (const [from, to, own] of [
        [HOST_A, HOST_B, 1],
        [HOST_B, HOST_A, 2],
      ] as const) {
        const ours = datagrams.filter((d) => isSameEndpoint(d.from, from))
        t.ok(ours.every((d) => isSameEndpoint(d.to, to)))
        // Third byte of the inner source: 10.5.1.0 or 10.5.2.0.
        t.strictSame(
          ours.map((d) => d.payload),
          tun.filter((packet) => packet[14] === own),
        )
      }
    },
  )
}

const IPV4_UDP = '4500001d 00000000 40110000 c0000202 c0000201 205d205d 00090000 58'
const IPV6_UDP =
  '60000000 00091140 20010db8000000000000000000000002 20010db8000000000000000000000001' +
  '205d205d 00090000 58'
const MACS = '02000000000a 02000000000b'
const PADDING = '00'.repeat(17)

t.test('frames to packets', (t) => {
  const cases = [
    { name: 'Ethernet', linkType: 1, frame: `${MACS} 0800 ${IPV4_UDP}`, want: IPV4_UDP },
    { name: 'padding', linkType: 1, frame: `${MACS} 0800 ${IPV4_UDP} ${PADDING}`, want: IPV4_UDP },
    { name: 'IPv6, padding', linkType: 1, frame: `${MACS} 86dd ${IPV6_UDP} 00`, want: IPV6_UDP },
    { name: '802.1Q', linkType: 1, frame: `${MACS} 8100 0005 0800 ${IPV4_UDP}`, want: IPV4_UDP },
    {
      name: '802.1ad',
      linkType: 1,
      frame: `${MACS} 88a8 0005 8100 0006 86dd ${IPV6_UDP}`,
      want: IPV6_UDP,
    },
    {
      name: 'SLL',
      linkType: 113,
      frame: `0000 0001 0006 02000000000a 0000 0800 ${IPV4_UDP}`,
      want: IPV4_UDP,
    },
    {
      name: 'SLL2',
      linkType: 276,
      frame: `86dd 0000 00000002 0001 00 06 02000000000a 0000 ${IPV6_UDP}`,
      want: IPV6_UDP,
    },
    ...[101, 12, 14, 228, 229].map((linkType) => ({
      name: `raw, ${linkType}`,
      linkType,
      frame: IPV4_UDP,
      want: IPV4_UDP,
    })),
    { name: 'raw, whatever it is', linkType: 101, frame: '0102', want: '0102' },
    { name: 'no bytes after the header', linkType: 1, frame: `${MACS} 0800`, want: '' },
    { name: 'ARP', linkType: 1, frame: `${MACS} 0806 0001`, reason: /ARP/ },
    { name: 'LLDP', linkType: 1, frame: `${MACS} 88cc 0001`, reason: /88cc/ },
    { name: 'short', linkType: 1, frame: MACS, reason: /shorter/ },
    { name: 'short SLL2', linkType: 276, frame: '0800', reason: /shorter/ },
    { name: 'a tag and nothing after it', linkType: 1, frame: `${MACS} 8100 00`, reason: /8100/ },
    { name: 'unknown link type', linkType: 105, frame: IPV4_UDP, reason: /105/ },
  ]
  for (const c of cases) {
    const got = packetOf(c.linkType, hex(c.frame))
    if ('want' in c) t.strictSame(got, { found: hex(c.want) }, c.name)
    else t.match(got, { reason: c.reason }, c.name)
    t.equal(isKnownLinkType(c.linkType), c.linkType !== 105)
  }
  t.end()
})

t.test('packets to datagrams', (t) => {
  const patch = (text: string, at: number, bytes: string): string => {
    const digits = text.replaceAll(' ', '')
    return digits.slice(0, at * 2) + bytes + digits.slice(at * 2 + bytes.length)
  }
  const v6 = (last: number): Uint8Array =>
    hex(`20010db80000000000000000000000${last.toString(16).padStart(2, '0')}`)
  t.strictSame(datagramOf(hex(IPV4_UDP), 8285), {
    found: { payload: hex('58'), from: HOST_B, to: HOST_A },
  })
  t.strictSame(datagramOf(hex(IPV6_UDP), 8285), {
    found: { payload: hex('58'), from: endpoint6(v6(2), 8285), to: endpoint6(v6(1), 8285) },
  })
  t.strictSame(found(datagramOf(hex(IPV4_UDP), 0)).payload, hex('58'), 'any port')
  const options = `46000021 00000000 40110000 c0000202 c0000201 01010100 205d205d 00090000 58`
  t.strictSame(found(datagramOf(hex(options), 8285)).payload, hex('58'), 'IP options')
  const cut = `${patch(IPV4_UDP, 2, '0100').replaceAll(' ', '').slice(0, 48)}00f00000 58`
  t.strictSame(found(datagramOf(hex(cut), 8285)).payload, hex('58'), 'payload cut off')
  const refused = [
    { name: 'nothing', packet: '', reason: /neither/ },
    { name: 'version 5', packet: patch(IPV4_UDP, 0, '55'), reason: /neither/ },
    { name: 'IHL 4', packet: patch(IPV4_UDP, 0, '44'), reason: /damaged outer IPv4/ },
    { name: 'IHL 15', packet: patch(IPV4_UDP, 0, '4f'), reason: /damaged outer IPv4/ },
    {
      name: '19 bytes',
      packet: IPV4_UDP.replaceAll(' ', '').slice(0, 38),
      reason: /damaged outer IPv4/,
    },
    { name: 'TCP', packet: patch(IPV4_UDP, 9, '06'), reason: /not UDP/ },
    { name: 'first fragment', packet: patch(IPV4_UDP, 6, '2000'), reason: /fragment/ },
    { name: 'later fragment', packet: patch(IPV4_UDP, 6, '0001'), reason: /fragment/ },
    { name: 'other port', packet: patch(IPV4_UDP, 22, '0035'), reason: /port 53, not 8285/ },
    { name: 'UDP length 7', packet: patch(IPV4_UDP, 24, '0007'), reason: /damaged outer UDP/ },
    {
      name: 'no UDP header',
      packet: IPV4_UDP.replaceAll(' ', '').slice(0, 54),
      reason: /damaged outer UDP/,
    },
    {
      name: '39 bytes of IPv6',
      packet: IPV6_UDP.replaceAll(' ', '').slice(0, 78),
      reason: /damaged outer IPv6/,
    },
    { name: 'IPv6 TCP', packet: patch(IPV6_UDP, 6, '06'), reason: /not UDP/ },
    {
      name: 'IPv6 fragment',
      packet: `${patch(IPV6_UDP, 6, '2c').slice(0, 80)}1100000100000000205d205d0009000058`,
      reason: /fragment/,
    },
  ]
  for (const c of refused) t.match(datagramOf(hex(c.packet), 8285), { reason: c.reason }, c.name)
  t.end()
})

t.test('no bytes make them throw', (t) => {
  const linkTypes = fc.constantFrom(1, 12, 14, 101, 113, 228, 229, 276)
  const start = fc.constantFrom('', IPV4_UDP, IPV6_UDP, `${MACS} 0800 ${IPV4_UDP}`, '4500', '60')
  fc.assert(
    fc.property(
      linkTypes,
      start,
      fc.uint8Array({ maxLength: 60 }),
      fc.nat(60),
      (linkType, text, tail, len) => {
        const packet = packetOf(linkType, Uint8Array.of(...hex(text).subarray(0, len), ...tail))
        if ('found' in packet) datagramOf(packet.found, 0)
      },
    ),
    { numRuns: 2000 },
  )
  t.end()
})

t.test('wrapped datagrams', async (t) => {
  const a6 = endpoint6(hex('20010db8000000000000000000000001'), 8285)
  const b6 = endpoint6(hex('20010db8000000000000000000000002'), 4789)
  t.throws(() => wrapDatagram(hex('58'), HOST_A, b6), RangeError)
  const ends = fc.constantFrom([HOST_A, HOST_B] as const, [a6, b6] as const)
  const wrapped: Uint8Array[] = []
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 1500 }), ends, (payload, [from, to]) => {
      const packet = wrapDatagram(payload, from, to)
      wrapped.push(packet)
      t.strictSame(datagramOf(packet, to.port), { found: { payload, from, to } })
    }),
    { numRuns: 100 },
  )
  const folder = mkdtempSync(join(tmpdir(), `hdl${process.pid}-capture-`))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  const path = join(folder, 'wrapped.pcap')
  const writer = new PcapWriter(path, { linkType: LINKTYPE_RAW })
  for (const bytes of wrapped) {
    writer.write({ seconds: 0, nanoseconds: 0, bytes, originalLength: bytes.length })
  }
  writer.close()
  // A status of 1 means that the checksum is right. The random payload is not taken apart.
  const args = ['-n', '-r', path, '-T', 'fields', '-d', 'udp.port==4789,data']
  args.push('-o', 'ip.check_checksum:TRUE', '-o', 'udp.check_checksum:TRUE')
  args.push('-e', 'ip.checksum.status', '-e', 'udp.checksum.status', '-e', 'udp.length')
  const lines = execFileSync('tshark', args, { encoding: 'utf8', stdio: 'pipe' }).split('\n')
  const want = wrapped.map((packet) =>
    packet[0] === 0x45 ? `1\t1\t${packet.length - 20}` : `\t1\t${packet.length - 40}`,
  )
  t.strictSame(lines.slice(0, -1), want)
})

const ROOM = 1500

function devices(records: readonly PcapRecord[], linkType: number) {
  const arena = createArena(new ArrayBuffer(4 * (HEADROOM + ROOM) + 4096))
  const batch = new Batch(arena, 0, 4, HEADROOM + ROOM)
  const written: Uint8Array[] = []
  const sent: SentDatagram[] = []
  const frames = { linkType, records }
  const inside = new CaptureInside(arena, frames, (packet) => written.push(packet))
  const outside = new CaptureOutside(arena, frames, 8285, (datagram) => sent.push(datagram))
  return { arena, batch, written, sent, inside, outside }
}

function readRows(batch: Batch, read: () => number): { bytes: Uint8Array; from: number }[] {
  const rows: { bytes: Uint8Array; from: number }[] = []
  for (;;) {
    batch.rewind()
    const count = read()
    if (count !== batch.count) throw new Error('count')
    if (count === 0) return rows
    for (let row = 0; row < count; row++) {
      const bytes = batch.arena.bytes.slice(batch.at(row), batch.at(row) + batch.len(row))
      rows.push({ bytes, from: batch.source(row, 0) })
    }
  }
}

t.test('a capture as devices: what the engine reads', async (t) => {
  const { header, records } = await loadPcap(join(FIXTURES, 'ethernet.pcap'))
  const { batch, inside, outside } = devices(records, header.linkType)
  const packets = readRows(batch, () => inside.read(batch))
  t.equal(inside.skipped, 2)
  t.strictSame(
    packets.map((row) => row.bytes),
    records.slice(2).map((r) => r.bytes.slice(14)),
  )
  const datagrams = readRows(batch, () => outside.receive(batch))
  t.equal(outside.skipped, 2)
  t.strictSame(
    datagrams.map((row) => row.bytes),
    records.slice(2).map((r) => r.bytes.slice(42)),
  )
  t.strictSame(
    datagrams.map((row) => row.from),
    records.slice(2).map((r) => Buffer.from(r.bytes).readInt32BE(26)),
  )
})

t.test('a capture as devices: what the engine writes', (t) => {
  const { arena, written, sent, inside, outside } = devices([], 101)
  const names = new Uint8Array(2 * NAME_SIZE)
  encodeName(HOST_B, names, 0)
  const entries = new Entries(2)
  const at = arena.bytes.length - 100
  arena.bytes.set(hex(IPV4_UDP), at)
  entries.add(at, 29, 0, 29)
  entries.add(at, 29, NAME_SIZE, 29)
  inside.write(entries)
  t.strictSame(written, [hex(IPV4_UDP), hex(IPV4_UDP)])
  outside.send(entries, names)
  t.strictSame(sent, [{ bytes: hex(IPV4_UDP), to: HOST_B }])
  t.strictSame([entries.result(0), entries.result(1)], [0, EINVAL])
  t.equal(describeEndpoint(sent[0]!.to), '192.0.2.2:8285')
  t.end()
})

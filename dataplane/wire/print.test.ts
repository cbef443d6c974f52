/** print.ts: kernel packets worded as tcpdump words them, hand-made faults named, and never a throw on any bytes. */
import fc from 'fast-check'
import t from 'tap'
import { createKernelFrames, createPacketCases, createView } from './packet-fixture.js'
import { describeFrame, describePacket } from './print.js'

const FRAMES = createKernelFrames()
const HANDMADE = createPacketCases('handmade.hex')

/** What tcpdump words otherwise: it looks into errors, and it knows VXLAN only on its own port. */
const WORDED_OTHERWISE = /unreachable|time exceeded|OTV|HBH|DSTOPT|RT6/
/** The parentheses with the IP header's other fields, which tcpdump gives only with -v. */
const DETAILS = / \((tos|class) [^)]*\)/g
const NOTES = / \[(unfinished \w+ cksum)\]$/

t.test('kernel packets read as tcpdump reads them', (t) => {
  let compared = 0
  for (const { file, name, notes, view } of FRAMES) {
    const want = notes.get('tcpdump')![0]!
    if (WORDED_OTHERWISE.test(want)) continue
    const line = describeFrame(view, 0, view.byteLength)
    const got = line
      .replace(/^.*? ethertype 0x[0-9a-f]{4}: /, '')
      .replace(DETAILS, '')
      .replace(NOTES, '')
    t.equal(got, want, `${file} ${name}`)
    compared++
  }
  t.ok(compared >= 24, `${compared} packets`)
  t.end()
})

t.test('kernel packets: no fault is found but the sums that the kernel left unfinished', (t) => {
  for (const { file, name, view } of FRAMES) {
    const line = describeFrame(view, 0, view.byteLength)
    const want = file === 'kernel-offload.hex' ? ['[unfinished udp cksum]'] : null
    t.strictSame(line.match(/\[(bad|unfinished|no udp|trunc)[^\]]*\]|malformed/g), want, name)
  }
  t.end()
})

t.test('a VXLAN packet is told down to the inner packet', (t) => {
  const { view } = FRAMES.find((c) => c.file === 'kernel-vxlan.hex' && c.name === 'udp')!
  t.equal(
    describeFrame(view, 0, view.byteLength),
    '02:00:00:00:00:0a > 02:00:00:00:00:0b, ethertype 0x0800: ' +
      'IP 192.0.2.1.37086 > 192.0.2.2.8472: UDP, length 56 ' +
      '(tos 0x0, ttl 64, id 15674, offset 0, flags [none], proto 17, length 84): ' +
      'VXLAN, flags [I] (0x08), vni 1: ' +
      '02:00:00:00:02:01 > 02:00:00:00:02:02, ethertype 0x0800: ' +
      'IP 10.5.1.0.40000 > 10.5.2.0.5000: UDP, length 6 ' +
      '(tos 0x0, ttl 64, id 2410, offset 0, flags [DF], proto 17, length 34)',
  )
  t.end()
})

t.test('an ICMP error is told with the packet it is about', (t) => {
  const { view } = FRAMES.find((c) => c.name === 'port-unreachable')!
  t.match(
    describePacket(view, 14, view.byteLength - 14),
    /^IP 192\.0\.2\.2 > 192\.0\.2\.1: ICMP port unreachable, length 39 \(.*\), about IP 192\.0\.2\.1\.40000 > 192\.0\.2\.2\.9: UDP, length 3 \(/,
  )
  t.end()
})

t.ok(HANDMADE.length >= 40, `${HANDMADE.length} hand-made packets`)
for (const { name, notes, view } of HANDMADE) {
  t.test(`${name}: ${notes.get('why')![0]!}`, (t) => {
    t.equal(describePacket(view, 0, view.byteLength), notes.get('print')![0])
    t.end()
  })
}

t.test('nothing at all, and frames that carry no IP', (t) => {
  t.equal(describePacket(createView(''), 0, 0), 'IP malformed: no bytes')
  t.equal(
    describeFrame(createView(''), 0, 0),
    'Ethernet malformed: fewer bytes than the header; 0 bytes: ',
  )
  for (const [type, want] of [
    ['08 06', 'ethertype 0x0806: ARP, length 2'],
    ['81 00', 'ethertype 0x8100: 802.1Q, length 2'],
    ['88 cc', 'ethertype 0x88cc: other, length 2'],
  ] as const) {
    const v = createView(`ff ff ff ff ff ff 02 00 00 00 00 01 ${type} 00 01`)
    t.equal(describeFrame(v, 0, 16), `02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ${want}`)
  }
  t.end()
})

t.test('a length beyond the view is cut to the view', (t) => {
  const v = createView('45 00', 4)
  t.equal(describePacket(v, 4, 1000), describePacket(v, 4, 2))
  t.equal(describeFrame(v, 4, 1000), describeFrame(v, 4, 2))
  t.equal(describePacket(v, 6, 10), 'IP malformed: no bytes')
  t.equal(describePacket(v, 99, 10), 'IP malformed: no bytes')
  t.end()
})

/** One line of plain text; a throw fails the property by itself. */
function isOneLine(bytes: Uint8Array): boolean {
  // The packet ends where the view ends, so that a read past it throws.
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const lines = [describePacket(v, 0, v.byteLength), describeFrame(v, 0, v.byteLength)]
  return lines.every((line) => line.length > 0 && /^[ -~…]+$/.test(line))
}

t.test('fuzz: random bytes', (t) => {
  const first = fc.oneof(fc.constantFrom(0x45, 0x46, 0x4f, 0x60), fc.nat(255))
  fc.assert(
    fc.property(first, fc.uint8Array({ maxLength: 120 }), (byte, rest) =>
      isOneLine(Uint8Array.from([byte, ...rest])),
    ),
    { numRuns: 3000 },
  )
  t.end()
})

t.test('fuzz: valid packets with bytes changed and the end cut', (t) => {
  const seeds = [
    ...HANDMADE.map(({ view }) => new Uint8Array(view.buffer)),
    ...FRAMES.map(({ view }) => new Uint8Array(view.buffer)),
    ...FRAMES.map(({ view }) => new Uint8Array(view.buffer, 14)),
  ]
  const change = fc.tuple(fc.nat(150), fc.oneof(fc.constantFrom(0, 1, 4, 5, 255), fc.nat(255)))
  fc.assert(
    fc.property(
      fc.constantFrom(...seeds),
      fc.array(change, { maxLength: 6 }),
      fc.nat(150),
      (seed, changes, cut) => {
        const bytes = seed.slice(0, Math.max(0, seed.length - (cut < 75 ? 0 : cut - 75)))
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value
        return isOneLine(bytes)
      },
    ),
    { numRuns: 5000 },
  )
  t.end()
})

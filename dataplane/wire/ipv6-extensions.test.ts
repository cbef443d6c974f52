/** The extension-header walk: kernel packets, hand-made chains, and every way a chain can go wrong. */
import fc from 'fast-check'
import t from 'tap'
import * as extensions from './ipv6-extensions.js'
import { createKernelHeaders, createView, describeHex } from './packet-fixture.js'

/** tshark's names of what may be an upper layer, and their protocol numbers. */
const UPPER = { udp: 17, tcp: 6, icmpv6: 58 } as const

t.test('take apart: the walk ends where tshark found the upper layer', (t) => {
  let seen = 0
  for (const [name, protocol] of Object.entries(UPPER)) {
    for (const { title, packet, view, at } of createKernelHeaders(name)) {
      const own = createKernelHeaders('ipv6').find(
        (c) => c.packet.name === packet.name && c.packet.file === packet.file && c.at < at,
      )
      if (own === undefined) continue
      const walked = extensions.walk(view, own.at, view.byteLength - own.at)
      t.equal(extensions.upperProtocol(walked), protocol, title)
      t.equal(extensions.upperOffset(walked), at - own.at, title)
      t.equal(extensions.hasExtensions(walked), at - own.at > 40, title)
      t.notOk(extensions.isFragment(walked), title)
      seen++
    }
  }
  t.ok(seen >= 12, `${seen} packets`)
  t.end()
})

t.test('take apart: the fragment headers of the kernel captures', (t) => {
  const cases = createKernelHeaders('ipv6.fraghdr')
  t.ok(cases.length > 0)
  for (const { title, view, at, fields } of cases) {
    const got = {
      'ipv6.fraghdr.nxt': String(view.getUint8(at)),
      'ipv6.fraghdr.offset': String(extensions.fragmentOffset(view, at) / 8),
      'ipv6.fraghdr.more': extensions.hasMoreFragments(view, at) ? '1' : '0',
      'ipv6.fraghdr.ident': `0x${(extensions.fragmentId(view, at) >>> 0).toString(16).padStart(8, '0')}`,
    }
    t.strictSame(got, Object.fromEntries(fields), title)
    const walked = extensions.walk(view, 14, view.byteLength - 14)
    t.ok(extensions.isLaterFragment(walked) && extensions.isFragment(walked), title)
    t.equal(extensions.upperOffset(walked), at + 8 - 14, 'the offset of the data')
    t.equal(extensions.upperProtocol(walked), 58)
    const v = new DataView(new Uint8Array(12).fill(0xff).buffer)
    extensions.writeFragment(v, 2, 58, 1448, false, extensions.fragmentId(view, at))
    t.equal(describeHex(v, 2, 8), describeHex(view, at, 8), 'put together')
    t.strictSame([v.getUint8(1), v.getUint8(10)], [0xff, 0xff], 'neighbours untouched')
  }
  t.end()
})

/** An IPv6 packet whose first next-header number is `first` and whose payload is `hex`. */
function packet(first: number, hex: string): DataView {
  const payload = hex.replace(/\s/g, '').length / 2
  const header = createView(
    `60 00 00 00 ${payload.toString(16).padStart(4, '0')} ${first.toString(16).padStart(2, '0')} 40`,
  )
  return createView(`${describeHex(header)} ${'00'.repeat(32)} ${hex}`, LEAD)
}
const LEAD = 6

const PAD6 = '01 04 00 00 00 00' // RFC 8200 §4.2: PadN, four bytes
const HBH = (next: string): string => `${next} 00 ${PAD6}`
const CASES: readonly {
  name: string
  first: number
  hex: string
  protocol: number
  offset: number
  fragment?: boolean
  later?: boolean
}[] = [
  { name: 'no extension', first: 17, hex: '00'.repeat(8), protocol: 17, offset: 40 },
  { name: 'nothing at all (59)', first: 59, hex: '', protocol: 59, offset: 40 },
  { name: 'hop-by-hop', first: 0, hex: HBH('11'), protocol: 17, offset: 48 },
  {
    name: 'the order of RFC 8200 §4.1, destination options twice',
    first: 0,
    hex:
      HBH('3c') +
      HBH('2b') +
      // routing, RFC 6275 type 2, one segment left: (2 + 1) * 8 bytes
      `2c 02 02 01 ${'00'.repeat(20)}` +
      // fragment, offset 0, no more: an atomic one
      '33 00 00 00 00 00 00 01' +
      // authentication, RFC 4302: 4 + 2 words, 12 bytes of value
      `3c 04 00 00 00 00 01 00 00 00 00 01 ${'ab'.repeat(12)}` +
      HBH('06'),
    protocol: 6,
    offset: 40 + 8 + 8 + 24 + 8 + 24 + 8,
  },
  { name: 'ESP ends the walk', first: 60, hex: HBH('32'), protocol: 50, offset: 48 },
  { name: 'mobility ends the walk', first: 135, hex: HBH('3b'), protocol: 135, offset: 40 },
  {
    name: 'the longest destination options',
    first: 60,
    hex: `11 ff ${'00'.repeat(2046)}`,
    protocol: 17,
    offset: 40 + 2048,
  },
  {
    name: 'first fragment',
    first: 44,
    hex: `11 00 00 01 00 00 00 07 ${'00'.repeat(8)}`,
    protocol: 17,
    offset: 48,
    fragment: true,
  },
  {
    name: 'first fragment with destination options behind',
    first: 44,
    hex: `3c 00 00 01 00 00 00 07 ${HBH('11')}`,
    protocol: 17,
    offset: 56,
    fragment: true,
  },
  {
    name: 'a later fragment ends the walk, whatever its header names',
    first: 44,
    hex: `3c 00 05 a9 00 00 00 07 ff ff ff ff ff ff ff ff`,
    protocol: 60,
    offset: 48,
    fragment: true,
    later: true,
  },
  {
    name: 'atomic fragment (RFC 6946) is whole',
    first: 44,
    hex: `11 00 00 00 00 00 00 07`,
    protocol: 17,
    offset: 48,
  },
  {
    name: 'reserved bits of a fragment header are ignored',
    first: 44,
    hex: `11 ff 00 06 00 00 00 07`,
    protocol: 17,
    offset: 48,
  },
  {
    name: 'eight headers',
    first: 60,
    hex: HBH('3c').repeat(7) + HBH('11'),
    protocol: 17,
    offset: 40 + 64,
  },
]
for (const c of CASES) {
  t.test(`chain: ${c.name}`, (t) => {
    const v = packet(c.first, c.hex)
    const walked = extensions.walk(v, LEAD, v.byteLength - LEAD)
    t.ok(walked > 0)
    t.equal(extensions.upperProtocol(walked), c.protocol)
    t.equal(extensions.upperOffset(walked), c.offset)
    t.equal(extensions.hasExtensions(walked), c.offset > 40)
    t.equal(extensions.isFragment(walked), c.fragment ?? false)
    t.equal(extensions.isLaterFragment(walked), c.later ?? false)
    // Every byte short of the last header is too few, whether the length or the payload field says so.
    const faults = new Set<number>()
    for (let len = 40; len < c.offset; len++) {
      faults.add(extensions.walk(v, LEAD, len))
      const short = packet(c.first, c.hex)
      short.setUint16(LEAD + 4, len - 40)
      faults.add(extensions.walk(short, LEAD, short.byteLength - LEAD))
    }
    t.strictSame([...faults], c.offset > 40 ? [extensions.WALK_TRUNCATED] : [])
    t.equal(extensions.walk(v, LEAD, c.offset), walked, 'the upper layer may begin at the end')
    t.end()
  })
}

const FAULTS = [
  ['hop-by-hop second', 60, HBH('00') + HBH('11'), extensions.WALK_MISPLACED],
  ['hop-by-hop twice', 0, HBH('00') + HBH('11'), extensions.WALK_MISPLACED],
  ['nine headers', 60, HBH('3c').repeat(8) + HBH('11'), extensions.WALK_TOO_MANY],
  ['length beyond the packet', 43, `11 01 ${'00'.repeat(6)}`, extensions.WALK_TRUNCATED],
  ['authentication beyond the packet', 51, `11 02 ${'00'.repeat(6)}`, extensions.WALK_TRUNCATED],
] as const
for (const [name, first, hex, want] of FAULTS) {
  t.test(`fault: ${name}`, (t) => {
    const v = packet(first, hex)
    t.equal(extensions.walk(v, LEAD, v.byteLength - LEAD), want)
    t.not(extensions.describeFault(want), extensions.describeFault(-99))
    t.end()
  })
}

t.test('any bytes: the walk ends inside the packet or answers with a fault', (t) => {
  const next = fc.constantFrom(0, 43, 44, 51, 60, 17)
  fc.assert(
    fc.property(next, fc.array(fc.oneof(next, fc.nat(3), fc.nat(255))), (first, payload) => {
      const v = packet(first, describeHex(new DataView(Uint8Array.from(payload).buffer)))
      const walked = extensions.walk(v, LEAD, v.byteLength - LEAD)
      if (walked < 0) return walked >= extensions.WALK_MISPLACED
      const offset = extensions.upperOffset(walked)
      return offset >= 40 && offset <= v.byteLength - LEAD
    }),
    { numRuns: 2000 },
  )
  t.end()
})

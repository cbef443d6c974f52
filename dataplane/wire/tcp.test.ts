/** tcp.ts and tcp-text.ts against kernel segments as tshark reads them, and option lists good and bad. */
import fc from 'fast-check'
import t from 'tap'
import { pseudo4, pseudo6 } from './checksum.js'
import { createKernelHeaders, createView, describeHex, type HeaderCase } from './packet-fixture.js'
import * as tcpText from './tcp-text.js'
import * as tcp from './tcp.js'

const HEADERS = createKernelHeaders('tcp')

function lenOf({ fields }: HeaderCase): number {
  return Number(fields.get('tcp.hdr_len')) + Number(fields.get('tcp.len'))
}

/** Sum of the pseudo-header: the IP header of these captures is the frame's 15th byte on. */
function pseudoOf(header: HeaderCase): number {
  const { view } = header
  return view.getUint8(14) >>> 4 === 4
    ? pseudo4(view.getInt32(26), view.getInt32(30), 6, lenOf(header))
    : pseudo6(view, 22, 38, 6, lenOf(header))
}

/** tshark's field names and formats. */
const FIELDS: Record<string, (v: DataView, at: number, header: HeaderCase) => string> = {
  'tcp.srcport': (v, at) => String(tcp.srcPort(v, at)),
  'tcp.dstport': (v, at) => String(tcp.dstPort(v, at)),
  'tcp.len': (v, at, header) => String(lenOf(header) - tcp.headerLen(v, at)),
  'tcp.seq_raw': (v, at) => String(tcp.seq(v, at) >>> 0),
  'tcp.ack_raw': (v, at) => String(tcp.ack(v, at) >>> 0),
  'tcp.hdr_len': (v, at) => String(tcp.headerLen(v, at)),
  'tcp.flags': (v, at) => `0x${tcp.flags(v, at).toString(16).padStart(4, '0')}`,
  'tcp.window_size_value': (v, at) => String(tcp.window(v, at)),
  'tcp.checksum': (v, at) => `0x${tcp.checksum(v, at).toString(16).padStart(4, '0')}`,
  'tcp.checksum.status': (v, at, header) =>
    tcp.isChecksumRight(v, at, lenOf(header), pseudoOf(header)) ? '1' : '0',
  'tcp.urgent_pointer': (v, at) => String(tcp.urgent(v, at)),
  'tcp.options.mss_val': (v, at) =>
    String(v.getUint16(at + tcp.findOption(v, at, tcp.OPTION_MSS) + 2)),
  'tcp.options.timestamp.tsval': (v, at) =>
    String(v.getUint32(at + tcp.findOption(v, at, tcp.OPTION_TIMESTAMPS) + 2)),
}

t.test('take apart: every header of the kernel captures reads as tshark reads it', (t) => {
  t.ok(HEADERS.length >= 9, `${HEADERS.length} headers`)
  for (const header of HEADERS) {
    const { title, view, at, fields } = header
    const got = Object.fromEntries(
      [...fields].map(([key]) => [key, FIELDS[key]?.(view, at, header)]),
    )
    t.strictSame(got, Object.fromEntries(fields), title)
    t.equal(tcp.check(view, at, lenOf(header)), tcp.OK, title)
    const hasMss = tcp.findOption(view, at, tcp.OPTION_MSS) >= 0
    t.equal(hasMss, fields.has('tcp.options.mss_val'), title)
  }
  t.end()
})

t.test('put together: write() makes the kernel’s reset; setters make every other header', (t) => {
  for (const header of HEADERS) {
    const { title, view, at, fields } = header
    const number = (key: string): number => Number(fields.get(key))
    const v = createView(describeHex(view))
    for (let i = 0; i < 20; i++) v.setUint8(at + i, 0xff)
    tcp.write(
      v,
      at,
      number('tcp.srcport'),
      number('tcp.dstport'),
      number('tcp.seq_raw'),
      number('tcp.ack_raw'),
      number('tcp.flags'),
      number('tcp.window_size_value'),
    )
    t.equal(tcp.headerLen(v, at), 20)
    v.setUint8(at + 12, number('tcp.hdr_len') << 2)
    tcp.finishChecksum(v, at, lenOf(header), pseudoOf(header))
    t.equal(describeHex(v), describeHex(view), title)
  }
  t.end()
})

t.test('round trip: what is set is read back, and nothing else changes', (t) => {
  const word = fc.nat(0xffff)
  fc.assert(
    fc.property(
      fc.tuple(word, word, fc.integer(), fc.integer(), fc.nat(255), word, word, word),
      fc.constantFrom(0, 0xff),
      ([src, dst, seq, ack, flags, window, checksum, urgent], old) => {
        const v = new DataView(new Uint8Array(24).fill(old).buffer)
        tcp.write(v, 2, 0, 0, 0, 0, 0, 0)
        tcp.setSrcPort(v, 2, src)
        tcp.setDstPort(v, 2, dst)
        tcp.setSeq(v, 2, seq)
        tcp.setAck(v, 2, ack)
        tcp.setFlags(v, 2, flags)
        tcp.setWindow(v, 2, window)
        const set = describeHex(v)
        tcp.write(v, 2, src, dst, seq, ack, flags, window)
        t.equal(describeHex(v), set)
        tcp.setChecksum(v, 2, checksum)
        tcp.setUrgent(v, 2, urgent)
        t.strictSame(
          [
            tcp.srcPort(v, 2),
            tcp.dstPort(v, 2),
            tcp.seq(v, 2),
            tcp.ack(v, 2),
            tcp.flags(v, 2),
            tcp.window(v, 2),
            tcp.checksum(v, 2),
            tcp.urgent(v, 2),
            tcp.headerLen(v, 2),
          ],
          [src, dst, seq, ack, flags, window, checksum, urgent, 20],
        )
        t.strictSame([v.getUint8(1), v.getUint8(22)], [old, old], 'neighbours untouched')
      },
    ),
    { numRuns: 50 },
  )
  t.end()
})

t.test('every truncation of a captured header is refused', (t) => {
  for (const { title, view, at, fields } of HEADERS) {
    const faults = new Set<number>()
    const header = Number(fields.get('tcp.hdr_len'))
    for (let len = 0; len < header; len++) faults.add(tcp.check(view, at, len))
    t.strictSame([...faults], [tcp.TRUNCATED], title)
    t.equal(tcp.check(view, at, header), tcp.OK, title)
  }
  t.end()
})

t.test('data offset: below 5 words is malformed, 15 words are the most', (t) => {
  for (const [words, len, want] of [
    [0, 60, tcp.MALFORMED],
    [4, 60, tcp.MALFORMED],
    [5, 20, tcp.OK],
    [6, 20, tcp.TRUNCATED],
    [15, 59, tcp.TRUNCATED],
    [15, 60, tcp.OK],
  ] as const) {
    const v = new DataView(new ArrayBuffer(60))
    v.setUint8(12, words << 4)
    t.equal(tcp.check(v, 0, len), want, `${words} words, ${len} bytes`)
  }
  t.end()
})

/** Option lists: hex (a multiple of four bytes), kind, findOption's answer, describeOptions' text. */
const OPTIONS: readonly (readonly [string, string, number, number, string])[] = [
  ['no options', '', tcp.OPTION_MSS, tcp.NO_OPTION, ''],
  ['MSS', '02 04 05 b4', tcp.OPTION_MSS, 20, 'mss 1460'],
  ['not there', '02 04 05 b4', tcp.OPTION_SACK, tcp.NO_OPTION, 'mss 1460'],
  [
    'behind padding',
    '01 01 08 0a 00 00 00 01 ff ff ff ff',
    tcp.OPTION_TIMESTAMPS,
    22,
    'nop,nop,TS val 1 ecr 4294967295',
  ],
  [
    'RFC 2018 SACK, two blocks',
    '01 01 05 12 00 00 00 01 00 00 00 02 00 00 00 05 00 00 00 09',
    tcp.OPTION_SACK,
    22,
    'nop,nop,sack 2 {1:2}{5:9}',
  ],
  ['window scale, SACK permitted', '03 03 07 04 02 00 00 00', 4, 23, 'wscale 7,sackOK,eol'],
  ['nothing after the end of the list', '00 02 04 05', tcp.OPTION_MSS, tcp.NO_OPTION, 'eol'],
  ['unknown kind', 'fe 04 f9 89', 254, 20, 'unknown-254'],
  ['MSS of a wrong length', '02 03 05 01', tcp.OPTION_MSS, 20, 'unknown-2,nop'],
  ['length 0', '02 00 05 b4', tcp.OPTION_MSS, tcp.BAD_OPTIONS, 'bad'],
  ['length 1', '08 01 01 01', tcp.OPTION_MSS, tcp.BAD_OPTIONS, 'bad'],
  ['length past the header', '01 01 02 04', tcp.OPTION_MSS, tcp.BAD_OPTIONS, 'nop,nop,bad'],
  ['one byte past the header', '01 02 04 05', tcp.OPTION_MSS, tcp.BAD_OPTIONS, 'nop,bad'],
  ['kind in the last byte', '01 01 01 02', tcp.OPTION_MSS, tcp.BAD_OPTIONS, 'nop,nop,nop,bad'],
]
for (const [name, hex, kind, want, text] of OPTIONS) {
  t.test(`options: ${name}`, (t) => {
    const v = createView(`${'00'.repeat(20)} ${hex} 02 04 11 11`, 3)
    v.setUint8(3 + 12, ((v.byteLength - 3 - 4) >>> 2) << 4)
    t.equal(tcp.findOption(v, 3, kind), want)
    t.equal(tcpText.describeOptions(v, 3), text)
    t.end()
  })
}

t.test('options: any bytes end in an option inside the header, or in none', (t) => {
  const byte = fc.oneof(fc.constantFrom(0, 1, 2, 3, 4, 5, 8, 10), fc.nat(255))
  fc.assert(
    fc.property(
      fc.array(byte, { maxLength: 40 }),
      fc.integer({ min: 2, max: 255 }),
      (raw, kind) => {
        const options = raw.slice(0, raw.length & ~3)
        const v = new DataView(
          Uint8Array.from([...new Array<number>(20).fill(0), ...options]).buffer,
        )
        v.setUint8(12, (5 + options.length / 4) << 4)
        const found = tcp.findOption(v, 0, kind)
        tcpText.describeOptions(v, 0)
        if (found < 0) return found >= tcp.BAD_OPTIONS
        return v.getUint8(found) === kind && found + v.getUint8(found + 1) <= v.byteLength
      },
    ),
    { numRuns: 2000 },
  )
  t.end()
})

t.test('flags in letters', (t) => {
  for (const [flags, want] of [
    [tcp.SYN, 'S'],
    [tcp.SYN | tcp.ACK, 'S.'],
    [tcp.ACK, '.'],
    [tcp.PSH | tcp.ACK, 'P.'],
    [tcp.FIN | tcp.ACK, 'F.'],
    [tcp.RST, 'R'],
    [tcp.SYN | tcp.ECE | tcp.CWR, 'SEW'],
    [tcp.FIN | tcp.PSH | tcp.URG, 'FPU'],
    [0, 'none'],
  ] as const) {
    t.equal(tcpText.describeFlags(flags), want)
  }
  t.end()
})

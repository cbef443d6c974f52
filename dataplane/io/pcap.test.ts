import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { loadPcap, openPcap, readPcap } from './pcap.js'
import { MAX_SNAP_LEN, PcapError, type PcapErrorCode, type PcapRecord } from './pcap-format.js'
import { encodePcapHeader, encodePcapRecord, PcapWriter } from './pcap-writer.js'

const FIXTURES = join(repoRoot(), 'fixtures/pcap')
const CAPTURES = [
  { file: 'ethernet.pcap', linkType: 1, isNanosecond: false },
  { file: 'sll.pcap', linkType: 113, isNanosecond: false },
  { file: 'sll2.pcap', linkType: 276, isNanosecond: false },
  { file: 'raw-nano.pcap', linkType: 101, isNanosecond: true },
]

/** Compiled tests run from a folder below the repository: the package file shows where it begins. */
function repoRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder)
  return folder
}

const hex = (text: string): Uint8Array =>
  Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'))

interface Outcome {
  records: PcapRecord[]
  linkType: number | null
  error: unknown
}

/** Reads all there is; never throws. */
async function outcome(...chunks: Uint8Array[]): Promise<Outcome> {
  const records: PcapRecord[] = []
  let linkType: number | null = null
  try {
    const reader = await readPcap(chunks)
    linkType = reader.header.linkType
    for await (const record of reader) records.push(record)
  } catch (error) {
    return { records, linkType, error }
  }
  return { records, linkType, error: null }
}

function temporaryFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), `hdl${process.pid}-pcap-`))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  return folder
}

// Hand-written from draft-ietf-opsawg-pcap, sections 4 and 5: one packet of 4 bytes, of 60 on the wire.
const BY_HAND = [
  {
    name: 'big endian, microseconds',
    file:
      'a1b2c3d4 0002 0004 00000000 00000000 00040000 00000065' +
      '5f5e1000 0001e240 00000004 0000003c 45000102',
    want: { seconds: 1600000000, nanoseconds: 123456000 },
  },
  {
    name: 'little endian, microseconds',
    file:
      'd4c3b2a1 0200 0400 00000000 00000000 00000400 65000000' +
      '00105e5f 40e20100 04000000 3c000000 45000102',
    want: { seconds: 1600000000, nanoseconds: 123456000 },
  },
  {
    name: 'big endian, nanoseconds',
    file:
      'a1b23c4d 0002 0004 00000000 00000000 00040000 00000065' +
      '5f5e1000 075bcd15 00000004 0000003c 45000102',
    want: { seconds: 1600000000, nanoseconds: 123456789 },
  },
  {
    name: 'little endian, nanoseconds',
    file:
      '4d3cb2a1 0200 0400 00000000 00000000 00000400 65000000' +
      '00105e5f 15cd5b07 04000000 3c000000 45000102',
    want: { seconds: 1600000000, nanoseconds: 123456789 },
  },
  {
    name: 'snap length 0, and a frame check sequence announced beside the link type',
    file:
      'a1b2c3d4 0002 0004 00000000 00000000 00000000 44000065' +
      '5f5e1000 00000000 00000004 0000003c 45000102',
    want: { seconds: 1600000000, nanoseconds: 0 },
  },
  {
    name: 'snap length below the packet, microseconds above a second, a time after 2038',
    file:
      'a1b2c3d4 0002 0004 00000000 00000000 00000001 00000065' +
      'fffffffe 000f4241 00000004 0000003c 45000102',
    want: { seconds: 0xffffffff, nanoseconds: 1000 },
  },
]

for (const c of BY_HAND) {
  t.test(c.name, async (t) => {
    const { records, linkType, error } = await outcome(hex(c.file))
    t.equal(error, null)
    t.equal(linkType, 101)
    const want = { ...c.want, bytes: hex('45000102'), originalLength: 60 }
    t.strictSame(records, [want])
  })
}

const HEADER = 'd4c3b2a1 0200 0400 00000000 00000000 00000400 65000000'
const RECORD = '00105e5f 40e20100 04000000 04000000 45000102'
const DAMAGED: {
  name: string
  file: string
  code: PcapErrorCode
  position: number
  text: RegExp
  records?: number
}[] = [
  { name: 'empty', file: '', code: 'PCAP_EMPTY', position: 0, text: /empty/ },
  {
    name: 'pcapng',
    file: '0a0d0d0a 1c000000',
    code: 'PCAP_NG',
    position: 0,
    text: /editcap -F pcap/,
  },
  { name: 'gzip', file: '1f8b0800', code: 'PCAP_COMPRESSED', position: 0, text: /gunzip/ },
  { name: 'text', file: '7b226e22 3a7d0a', code: 'PCAP_NOT_PCAP', position: 0, text: /7b226e22/ },
  {
    name: 'version 2.3, whose lengths are swapped',
    file: HEADER.replace('0400', '0300'),
    code: 'PCAP_VERSION',
    position: 4,
    text: /2\.3/,
  },
  {
    name: 'version 3.4',
    file: HEADER.replace('0200', '0300'),
    code: 'PCAP_VERSION',
    position: 4,
    text: /3\.4/,
  },
  {
    name: 'one byte after the last record',
    file: `${HEADER} ${RECORD} 00`,
    code: 'PCAP_TRUNCATED',
    position: 44,
    text: /byte 44.*16 bytes.*only 1 more/,
    records: 1,
  },
  {
    name: 'a record longer than the file',
    file: `${HEADER} ${RECORD} 00105e5f 40e20100 05000000 05000000 45000102`,
    code: 'PCAP_TRUNCATED',
    position: 44,
    text: /16 \+ 5 bytes.*only 20 more/,
    records: 1,
  },
  {
    name: 'a record one byte longer than any packet',
    file: `${HEADER} ${RECORD} 00105e5f 40e20100 01000400 01000400 ${RECORD} ${RECORD}`,
    code: 'PCAP_RECORD_TOO_LONG',
    position: 44,
    text: /262145/,
    records: 1,
  },
  {
    name: 'garbage where a record header should be',
    file: `${HEADER} ${RECORD} ${RECORD} ${'ff'.repeat(64)}`,
    code: 'PCAP_RECORD_TOO_LONG',
    position: 64,
    text: /4294967295/,
    records: 2,
  },
]

for (const c of DAMAGED) {
  t.test(`damaged: ${c.name}`, async (t) => {
    const whole = hex(c.file)
    for (const chunks of [[whole], [...whole].map((byte) => Uint8Array.of(byte))]) {
      const { records, error } = await outcome(...chunks)
      t.equal(records.length, c.records ?? 0)
      t.ok(error instanceof PcapError, String(error))
      t.match(error, { code: c.code, position: c.position, message: c.text })
    }
  })
}

t.test("a file that is not there is the system's error", async (t) => {
  await t.rejects(openPcap('/nonexistent/x.pcap'), { code: 'ENOENT' })
})

for (const capture of CAPTURES) {
  t.test(capture.file, async (t) => {
    const path = join(FIXTURES, capture.file)
    const { header, records, damage } = await loadPcap(path)
    t.equal(damage, null)
    t.equal(header.linkType, capture.linkType)
    t.equal(header.isNanosecond, capture.isNanosecond)
    t.ok(records.length >= 10, `${records.length} packets`)

    t.test('tshark reads the same', (t) => {
      // No dissection: numbers from the file, bytes as a hex dump.
      const fields = ['frame.time_epoch', 'frame.cap_len', 'frame.len'].flatMap((f) => ['-e', f])
      const args = ['-n', '-r', path, '-T', 'fields', ...fields]
      const lines = execFileSync('tshark', args, { encoding: 'utf8', stdio: 'pipe' })
        .trim()
        .split('\n')
      const ours = records.map((r) => {
        const time = `${r.seconds}.${String(r.nanoseconds).padStart(9, '0')}`
        return [time, r.bytes.length, r.originalLength].join('\t')
      })
      t.strictSame(ours, lines)
      t.end()
    })

    t.test('tcpdump reads the same bytes', (t) => {
      const args = ['-r', path, '-t', '-n', '-xx']
      const dump = execFileSync('tcpdump', args, { encoding: 'utf8', stdio: 'pipe' })
      const hexLines = dump.match(/^\t0x.*$/gm) ?? []
      const bytes = hexLines.map((line) =>
        line.replace(/^\t0x[0-9a-f]+: +/, '').replaceAll(' ', ''),
      )
      const ours = records.map((r) => Buffer.from(r.bytes).toString('hex')).join('')
      t.equal(bytes.join(''), ours)
      t.end()
    })

    t.test('cut off at every byte', async (t) => {
      const file = Uint8Array.from(readFileSync(path))
      const ends: number[] = []
      let end = 24
      for (const record of records) ends.push((end += 16 + record.bytes.length))
      let wrong = 0
      for (let len = 0; len < file.length; len++) {
        const got = await outcome(file.slice(0, len))
        const whole = ends.filter((at) => at <= len).length
        const isAtRecord = len === 24 || ends.includes(len)
        const position = len < 24 ? 0 : (ends[whole - 1] ?? 24)
        const isRight =
          got.records.length === whole &&
          (isAtRecord
            ? got.error === null
            : got.error instanceof PcapError &&
              got.error.code === (len === 0 ? 'PCAP_EMPTY' : 'PCAP_TRUNCATED') &&
              got.error.position === position)
        if (!isRight) {
          wrong++
          t.fail(`${len} bytes: ${got.records.length} records, ${String(got.error)}`)
        }
      }
      t.equal(wrong, 0, `${file.length} lengths`)
    })
  })
}

t.test('chunks of any size give the same records', async (t) => {
  const file = Uint8Array.from(readFileSync(join(FIXTURES, 'raw-nano.pcap')))
  const whole = await outcome(file.slice())
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 0, max: 600 }), { minLength: 1 }),
      async (sizes) => {
        const chunks: Uint8Array[] = []
        for (let at = 0, i = 0; at < file.length; i++) {
          const size = Math.max(sizes[i % sizes.length]!, i % 7 === 0 ? 1 : 0)
          chunks.push(file.slice(at, at + size))
          at += size
        }
        t.strictSame(await outcome(...chunks), whole)
      },
    ),
    { numRuns: 30 },
  )
})

t.test('any bytes at all end in records or the documented error', async () => {
  const start = fc.constantFrom('', 'd4c3b2a102000400', HEADER, `${HEADER}${RECORD}`)
  await fc.assert(
    fc.asyncProperty(start, fc.uint8Array({ maxLength: 200 }), async (text, tail) => {
      const { error } = await outcome(Uint8Array.of(...hex(text), ...tail))
      return error === null || error instanceof PcapError
    }),
    { numRuns: 500 },
  )
})

const record = fc.record(
  {
    seconds: fc.integer({ min: 0, max: 0xffffffff }),
    nanoseconds: fc.integer({ min: 0, max: 999_999_999 }),
    bytes: fc.uint8Array({ maxLength: 300 }),
    originalLength: fc.integer({ min: 300, max: 0xffffffff }),
  },
  { noNullPrototype: true },
)

t.test('what is written is read again', async (t) => {
  const path = join(temporaryFolder(t), 'out.pcap')
  await fc.assert(
    fc.asyncProperty(
      fc.array(record, { maxLength: 20 }),
      fc.integer({ min: 0, max: 0xffff }),
      fc.boolean(),
      async (records, linkType, isNanosecond) => {
        const writer = new PcapWriter(path, { linkType, isNanosecond })
        for (const r of records) writer.write(r)
        writer.close()
        const got = await loadPcap(path)
        t.equal(got.damage, null)
        t.equal(got.header.linkType, linkType)
        t.strictSame(
          got.records,
          isNanosecond
            ? records
            : records.map((r) => ({ ...r, nanoseconds: r.nanoseconds - (r.nanoseconds % 1000) })),
        )
      },
    ),
    { numRuns: 50 },
  )
})

t.test("written bytes are the format's", (t) => {
  t.strictSame(encodePcapHeader({ linkType: 101 }), hex(HEADER))
  t.strictSame(
    encodePcapHeader({ linkType: 101, isNanosecond: true }),
    hex(`4d3cb2a1${HEADER.slice(8)}`),
  )
  const r = {
    seconds: 1600000000,
    nanoseconds: 123456789,
    bytes: hex('45000102'),
    originalLength: 4,
  }
  t.strictSame(encodePcapRecord(r), hex(RECORD))
  t.strictSame(encodePcapRecord(r, true), hex(RECORD.replace('40e20100', '15cd5b07')))
  t.end()
})

t.test('a packet longer than the snap length is cut, its length kept', async (t) => {
  const bytes = new Uint8Array(MAX_SNAP_LEN + 1).fill(0x45)
  const encoded = encodePcapRecord({ seconds: 0, nanoseconds: 0, bytes, originalLength: 0 })
  const { records, error } = await outcome(encodePcapHeader({ linkType: 101 }), encoded)
  t.equal(error, null)
  t.equal(records[0]!.bytes.length, MAX_SNAP_LEN)
  t.equal(records[0]!.originalLength, MAX_SNAP_LEN + 1)
})

t.test('what does not fit the format is refused', (t) => {
  const bytes = new Uint8Array(0)
  for (const bad of [
    { seconds: -1, nanoseconds: 0 },
    { seconds: 2 ** 32, nanoseconds: 0 },
    { seconds: 0.5, nanoseconds: 0 },
    { seconds: 0, nanoseconds: 1e9 },
  ]) {
    t.throws(() => encodePcapRecord({ ...bad, bytes, originalLength: 0 }), RangeError)
  }
  for (const linkType of [-1, 65536, 1.5])
    t.throws(() => encodePcapHeader({ linkType }), RangeError)
  t.throws(() => new PcapWriter('/nonexistent/x.pcap', { linkType: 1 }), { code: 'ENOENT' })
  t.end()
})

t.test('tshark reads what is written', async (t) => {
  const path = join(temporaryFolder(t), 'copy.pcap')
  for (const { file, linkType, isNanosecond } of CAPTURES) {
    const source = join(FIXTURES, file)
    const writer = new PcapWriter(path, { linkType, isNanosecond })
    for (const r of (await loadPcap(source)).records) writer.write(r)
    writer.close()
    const dump = (name: string): string =>
      execFileSync('tshark', ['-n', '-r', name, '-V', '-x'], {
        encoding: 'utf8',
        stdio: 'pipe',
        maxBuffer: 1 << 24,
      })
    t.equal(dump(path), dump(source), file)
    if (!isNanosecond)
      t.strictSame(readFileSync(path), readFileSync(source), `${file}, byte for byte`)
  }
})

t.test('a file of many chunks', async (t) => {
  const path = join(temporaryFolder(t), 'large.pcap')
  const count = 20_000
  const parts = [encodePcapHeader({ linkType: 101 })]
  for (let n = 0; n < count; n++) {
    const bytes = new Uint8Array(n % 1500).fill(n)
    parts.push(encodePcapRecord({ seconds: n, nanoseconds: 0, bytes, originalLength: 1500 }))
  }
  writeFileSync(path, Buffer.concat(parts))
  let n = 0
  for await (const r of await openPcap(path)) {
    const isRight =
      r.seconds === n && r.bytes.length === n % 1500 && r.bytes.every((byte) => byte === (n & 255))
    if (!isRight) t.fail(`packet ${n}`)
    n++
  }
  t.equal(n, count)
})

/**
 * docs/WIRE-FORMATS.md says what the code does: every hex block is parsed, every row of the table
 * behind it is compared with the function of that name, value and place.
 */
import { readFileSync } from 'node:fs'
import t from 'tap'
import * as arp from './arp.js'
import * as checksum from './checksum.js'
import * as ethernet from './ethernet.js'
import * as icmpv4 from './icmpv4.js'
import * as icmpv6 from './icmpv6.js'
import * as ipv4 from './ipv4.js'
import * as extensions from './ipv6-extensions.js'
import * as ipv6 from './ipv6.js'
import { createRootPath, createView, describeHex } from './packet-fixture.js'
import { describeFrame } from './print.js'
import * as tcp from './tcp.js'
import * as udp from './udp.js'
import * as vnethdr from './vnethdr.js'
import * as vxlan from './vxlan.js'

const MODULES: Record<string, Record<string, unknown>> = {
  ipv4,
  ipv6,
  'ipv6-extensions': extensions,
  udp,
  tcp,
  icmpv4,
  icmpv6,
  ethernet,
  arp,
  vxlan,
  vnethdr,
}

type Getter = (v: DataView, at: number) => number | boolean
interface Row {
  readonly name: string
  readonly at: number
  readonly bytes: number
  readonly value: string
}
interface Example {
  readonly module: string
  readonly hex: string
  readonly rows: readonly Row[]
}

const text = readFileSync(createRootPath('docs', 'WIRE-FORMATS.md'), 'utf8')
const LEAD = 3

/** Each ```hex block with the rows of the table that follows it before the next block. */
function examples(): Example[] {
  return text
    .split('```hex ')
    .slice(1)
    .map((part) => {
      const [head = '', body = ''] = part.split(/\n```\n/, 2)
      const [module = '', ...hex] = head.split('\n')
      const rows = [...body.matchAll(/^\| `(\w+)` +\| (\d+) +\| (\d+) +\| (\S+) +\|$/gm)].map(
        ([, name = '', at = '', bytes = '', value = '']): Row => ({
          name,
          at: Number(at),
          bytes: Number(bytes),
          value,
        }),
      )
      return { module, hex: hex.join(' '), rows }
    })
}

/** A value as the document writes it, whatever notation it uses for numbers. */
function isValue(want: string, got: number | boolean): boolean {
  if (typeof got === 'boolean') return want === String(got)
  if (/^\d+\.\d+\.\d+\.\d+$/.test(want)) return want === ipv4.describeAddress(got)
  return Number(want) === got >>> 0
}

/** Whether the getter's answer ever changes when single bits of one byte are flipped. */
function reads(getter: Getter, hex: string, index: number): boolean {
  for (let bit = 0; bit < 8; bit++) {
    const v = createView(hex, LEAD)
    const before = getter(v, LEAD)
    v.setUint8(LEAD + index, v.getUint8(LEAD + index) ^ (1 << bit))
    if (getter(v, LEAD) !== before) return true
  }
  return false
}

const EXAMPLES = examples()
for (const { module, hex, rows } of EXAMPLES.filter((e) => e.module in MODULES)) {
  t.test(`${module}: ${hex.slice(0, 23)} …`, (t) => {
    t.ok(rows.length > 0, 'a table follows')
    const v = createView(hex, LEAD)
    for (const { name, at, bytes, value } of rows) {
      const getter = MODULES[module]![name] as Getter
      t.type(getter, 'function', name)
      const got = getter(v, LEAD)
      t.ok(isValue(value, got), `${name}: the document says ${value}, the code ${String(got)}`)
      const read = []
      for (let i = 0; i < v.byteLength - LEAD; i++) if (reads(getter, hex, i)) read.push(i)
      const last = at + bytes - 1
      t.strictSame([read[0], read.at(-1)], [at, last], `${name} reads bytes ${at} to ${last}`)
    }
    t.end()
  })
}

t.test('every header has its example, and every length in the code is the table’s end', (t) => {
  t.strictSame(
    [...new Set(EXAMPLES.map((e) => e.module))].sort(),
    [...Object.keys(MODULES), 'checksum', 'frame'].sort(),
  )
  for (const { module, rows } of EXAMPLES) {
    const len = MODULES[module]?.['HEADER_LEN']
    const end = Math.max(0, ...rows.map((row) => row.at + row.bytes))
    if (module in { ipv4, udp, tcp, icmpv4, icmpv6, ethernet, arp, vnethdr })
      t.equal(end, len, module)
  }
  t.end()
})

/** Functions of (view, at) that are not fields: they change bytes, or no single bit decides them. */
const NOT_FIELDS = [
  'decrementTtl',
  'decrementHopLimit',
  'markCongested',
  'headerSum',
  'clear',
  'hasChecksum',
]

t.test('every field that the code can read has its row', (t) => {
  for (const [module, exported] of Object.entries(MODULES)) {
    const rows = EXAMPLES.filter((e) => e.module === module).flatMap((e) => e.rows)
    const missing = Object.entries(exported)
      .filter(([, value]) => typeof value === 'function' && value.length === 2)
      .map(([name]) => name)
      .filter((name) => !/^(set|finish|describe)/.test(name) && !NOT_FIELDS.includes(name))
      .filter((name) => !rows.some((row) => row.name === name))
    t.strictSame(missing, [], module)
  }
  t.end()
})

t.test('the packet of the overview reads as the document says', (t) => {
  const frame = EXAMPLES.find((e) => e.module === 'frame')!
  const v = createView(frame.hex)
  const line = describeFrame(v, 0, v.byteLength)
  t.ok(text.includes(`\n\`\`\`text\n${line}\n\`\`\`\n`), line)
  t.end()
})

t.test('the worked examples of the checksum section', (t) => {
  const { hex } = EXAMPLES.find((e) => e.module === 'checksum')!
  const v = createView(hex)
  const sum = checksum.sum(v, 0, v.byteLength)
  t.match(text, `sum is 0x${sum.toString(16)}, the checksum 0x${checksum.finish(sum).toString(16)}`)
  t.match(text, /0xdd2f has one word changed from\s+0x5555 to 0x3285, its checksum becomes 0x0000/)
  t.equal(checksum.update(0xdd2f, 0x5555, 0x3285), 0x0000)
  t.end()
})

t.test('the fault numbers that the document names are the code’s', (t) => {
  const faults = [...text.matchAll(/`([A-Z_]+)` (−?\d+)\b/g)]
  t.ok(faults.length >= 20, `${faults.length} named`)
  for (const [, name = '', number = ''] of faults) {
    const holders = Object.values(MODULES).filter((module) => name in module)
    const values = holders.map((module) => module[name])
    t.ok(values.includes(Number(number.replace('−', '-'))), `${name} ${number}`)
  }
  t.end()
})

t.test('the diagrams stand in the code as they stand here', (t) => {
  const diagrams = [...text.matchAll(/```text\n( {5}0 {19}1[^`]*)```/g)].map(([, d = '']) => d)
  t.equal(diagrams.length, 9)
  const code = Object.keys(MODULES)
    .map((name) => readFileSync(createRootPath('dataplane', 'wire', `${name}.ts`), 'utf8'))
    .join('\n')
    .replaceAll(/^ \* ?/gm, '')
  for (const diagram of diagrams) {
    for (const line of diagram.trimEnd().split('\n')) {
      t.ok(code.includes(` ${line.trimStart()}`), line)
    }
  }
  t.end()
})

t.test('hex in the document round-trips', (t) => {
  for (const { hex } of EXAMPLES) t.equal(describeHex(createView(hex)), hex.trim())
  t.end()
})

/**
 * Packets in hex for the tests of this folder, read from fixtures/packets/*.hex.
 *
 * A file is a list of sections: `[name]`, then `key: value` lines, then rows of hex; `#` begins a
 * comment. The `tshark:` lines of kernel captures (`name@position+length`, then `field=value` …) are
 * what the header modules are compared with. Test support, used by no other code.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** One section of a file. */
export interface PacketCase {
  readonly file: string
  readonly name: string
  /** Values of each key, in order. */
  readonly notes: ReadonlyMap<string, readonly string[]>
  readonly view: DataView
}

/** One header of a captured packet, with tshark's view of its fields. */
export interface HeaderCase {
  readonly title: string
  readonly packet: PacketCase
  readonly view: DataView
  readonly at: number
  /** Bytes from `at` to the end of the frame. */
  readonly rest: number
  /** tshark's names and values. */
  readonly fields: ReadonlyMap<string, string>
}

/** Bytes from spaced hex, behind `lead` bytes of 0xaa so that nothing works at position 0 only. */
export function createView(hex: string, lead = 0): DataView {
  const digits = hex.replace(/\s+/g, '')
  if (!/^([0-9a-f]{2})*$/i.test(digits)) throw new Error(`not hex: ${hex}`)
  const bytes = new Uint8Array(lead + digits.length / 2).fill(0xaa)
  for (let i = 0; i < digits.length; i += 2) {
    bytes[lead + i / 2] = Number.parseInt(digits.slice(i, i + 2), 16)
  }
  return new DataView(bytes.buffer)
}

/** Spaced hex of a range. */
export function describeHex(v: DataView, at = 0, len: number = v.byteLength - at): string {
  return Buffer.from(v.buffer, v.byteOffset + at, len)
    .toString('hex')
    .replace(/..(?=.)/g, '$& ')
}

/** The folder that has package.json, above this file wherever it was compiled to. */
export function createRootPath(...parts: string[]): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder)
    if (parent === folder) throw new Error('no package.json above this file')
    folder = parent
  }
  return join(folder, ...parts)
}

/**
 * The sections of one file.
 * @param file  name in fixtures/packets
 * @throws      an error with file and line for anything that is not of the format
 */
export function createPacketCases(file: string): PacketCase[] {
  const cases: PacketCase[] = []
  let name = ''
  let notes = new Map<string, string[]>()
  let hex = ''
  const createCase = (): void => {
    if (name !== '') cases.push({ file, name, notes, view: createView(hex) })
    notes = new Map()
    hex = ''
  }
  const lines = readFileSync(createRootPath('fixtures', 'packets', file), 'utf8').split('\n')
  for (const [index, line] of lines.entries()) {
    const section = /^\[([\w-]+)\]$/.exec(line)
    const note = /^([a-z]+): (.+)$/.exec(line)
    if (section !== null) {
      createCase()
      name = section[1] ?? ''
    } else if (note !== null) {
      const [, key = '', value = ''] = note
      notes.set(key, [...(notes.get(key) ?? []), value])
    } else if (/^([0-9a-f]{2} ?)+$/.test(line)) {
      hex += line
    } else if (line !== '' && !line.startsWith('#')) {
      throw new Error(`${file}:${index + 1}: neither section, note nor hex: ${line}`)
    }
  }
  createCase()
  return cases
}

/** Every Ethernet frame captured from the kernel. */
export function createKernelFrames(): PacketCase[] {
  return readdirSync(createRootPath('fixtures', 'packets'))
    .filter((file) => file.startsWith('kernel-') && file !== 'kernel-vnethdr.hex')
    .flatMap((file) => createPacketCases(file))
}

/**
 * Every header of one kind in the kernel captures, inner ones of VXLAN included.
 * @param kind  tshark's name: `ip`, `ipv6`, `udp` …
 */
export function createKernelHeaders(kind: string): HeaderCase[] {
  return createKernelFrames().flatMap((packet) =>
    (packet.notes.get('tshark') ?? []).flatMap((line) => {
      const [head = '', ...pairs] = line.split(' ')
      const [name, position = ''] = head.split('@')
      if (name !== kind) return []
      const at = Number.parseInt(position, 10)
      const fields = new Map(
        pairs.map((pair): [string, string] => {
          const cut = pair.indexOf('=')
          return [pair.slice(0, cut), pair.slice(cut + 1)]
        }),
      )
      const title = `${packet.file} ${packet.name}: ${kind} at ${at}`
      return [{ title, packet, view: packet.view, at, rest: packet.view.byteLength - at, fields }]
    }),
  )
}

/**
 * Reads classic pcap files, whole or damaged: every record before the damage is handed out, then
 * comes a `PcapError` that says at which byte the file is wrong.
 *
 * The `pcap-parser` package takes the headers apart. It knows neither nanosecond files nor damage,
 * so it is fed by hand: the first bytes are looked at before it sees them, a nanosecond magic is
 * rewritten to the one it knows, each record length is judged, and the position is kept here.
 */
import { EventEmitter } from 'node:events'
import { createReadStream } from 'node:fs'
import { parse, type GlobalHeader, type PacketHeader } from 'pcap-parser'
import {
  FILE_HEADER_LEN,
  MAGIC_MICRO,
  MAGIC_NANO,
  MAX_SNAP_LEN,
  PcapError,
  RECORD_HEADER_LEN,
  type PcapRecord,
} from './pcap-format.js'

/** What the file header says. */
export interface PcapHeader {
  readonly linkType: number
  readonly isNanosecond: boolean
  readonly isLittleEndian: boolean
  /** As written in the file; many writers put nonsense here, so nothing depends on it. */
  readonly snapLength: number
}

/** An open capture: its header, and its records in order, to be iterated once. */
export interface PcapReader extends AsyncIterable<PcapRecord> {
  readonly header: PcapHeader
}

/**
 * Opens a capture file.
 * @throws PcapError when the file header is missing, damaged or of another format; the system's
 *         error when the file cannot be opened or read. Iterating may throw the same, after the
 *         last good record.
 */
export async function openPcap(path: string): Promise<PcapReader> {
  return readPcap(createReadStream(path))
}

/**
 * Reads a capture from chunks of bytes of any size. Takes ownership of the chunks.
 * @throws as {@link openPcap}
 */
export async function readPcap(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<PcapReader> {
  const chunks = toAsync(source)
  let start: Buffer = Buffer.alloc(0)
  while (start.length < FILE_HEADER_LEN) {
    const { value, done } = await chunks.next()
    if (done === true) break
    start = Buffer.concat([start, value])
  }
  const { isLittleEndian, isNanosecond } = recognise(start)
  const parser = new FedParser(isNanosecond)
  if (isNanosecond) start = withMicrosecondMagic(start, isLittleEndian)
  parser.feed(start)
  const { linkLayerType, snapshotLength } = parser.fileHeader()
  // The upper 6 bits tell of frame check sequences after Ethernet frames; IP lengths leave them out.
  const linkType = linkLayerType & 0x03ff_ffff
  const header = { linkType, isNanosecond, isLittleEndian, snapLength: snapshotLength }
  return { header, [Symbol.asyncIterator]: () => records(parser, chunks) }
}

/** Reads a whole capture into memory. @returns all good records, and the error that ended them, if any */
export async function loadPcap(
  path: string,
): Promise<{ header: PcapHeader; records: PcapRecord[]; damage: PcapError | null }> {
  const reader = await openPcap(path)
  const loaded: PcapRecord[] = []
  try {
    for await (const record of reader) loaded.push(record)
  } catch (error) {
    if (!(error instanceof PcapError)) throw error
    return { header: reader.header, records: loaded, damage: error }
  }
  return { header: reader.header, records: loaded, damage: null }
}

async function* toAsync(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<Buffer, undefined> {
  for await (const chunk of source) {
    yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
  }
}

async function* records(
  parser: FedParser,
  chunks: AsyncIterable<Buffer>,
): AsyncGenerator<PcapRecord, void> {
  yield* parser.take()
  parser.assertUndamaged()
  for await (const chunk of chunks) {
    parser.feed(chunk)
    yield* parser.take()
    parser.assertUndamaged()
  }
  parser.assertComplete()
}

/** `pcap-parser` with a source that hands over chunks synchronously, and a watch over positions. */
class FedParser {
  /** What is wrong with a record; once set, nothing more comes. */
  private damage: PcapError | null = null
  private readonly source = new ManualSource()
  private readonly nanosecondsPerUnit: number
  private header: GlobalHeader | null = null
  private ready: PcapRecord[] = []
  private fed = 0
  /** Where the next record begins. */
  private position = FILE_HEADER_LEN
  /** The record header whose packet has not come yet. */
  private open: PacketHeader | null = null

  constructor(isNanosecond: boolean) {
    this.nanosecondsPerUnit = isNanosecond ? 1 : 1000
    const parser = parse(this.source)
    parser.on('globalHeader', (header) => {
      this.header = header
    })
    parser.on('packetHeader', (header) => {
      this.begin(header)
    })
    parser.on('packet', ({ header, data }) => {
      this.finish(header, data)
    })
    parser.on('error', (error) => {
      this.damage ??= new PcapError('PCAP_NOT_PCAP', 0, error.message)
    })
  }

  feed(chunk: Buffer): void {
    this.fed += chunk.length
    this.source.emit('data', chunk)
  }

  /** Records that came whole since the last call. */
  take(): PcapRecord[] {
    const taken = this.ready
    this.ready = []
    return taken
  }

  /** The file header; the first chunk fed holds it whole. */
  fileHeader(): GlobalHeader {
    if (this.header === null) {
      throw this.damage ?? new PcapError('PCAP_NOT_PCAP', 0, 'the file header cannot be read')
    }
    return this.header
  }

  /** @throws PcapError when a record header was wrong */
  assertUndamaged(): void {
    if (this.damage !== null) throw this.damage
  }

  /** The file ends here. @throws PcapError when that is in the middle of a record */
  assertComplete(): void {
    const there = this.fed - this.position
    if (there === 0) return
    const wanted =
      this.open === null
        ? `a record header of ${RECORD_HEADER_LEN} bytes`
        : `a record of ${RECORD_HEADER_LEN} + ${this.open.capturedLength} bytes`
    const message = `${wanted} begins here, but the file has only ${there} more`
    throw new PcapError('PCAP_TRUNCATED', this.position, message)
  }

  private begin(header: PacketHeader): void {
    this.open = header
    if (header.capturedLength > MAX_SNAP_LEN) {
      this.damage ??= new PcapError(
        'PCAP_RECORD_TOO_LONG',
        this.position,
        `a record header announces ${header.capturedLength} bytes, more than any packet has ` +
          `(${MAX_SNAP_LEN}); the file is damaged here or just before`,
      )
    }
  }

  private finish(header: PacketHeader, bytes: Buffer): void {
    if (this.damage !== null) return
    this.open = null
    this.position += RECORD_HEADER_LEN + bytes.length
    const fraction = header.timestampMicroseconds * this.nanosecondsPerUnit
    this.ready.push({
      seconds: header.timestampSeconds + Math.floor(fraction / 1e9),
      nanoseconds: fraction % 1e9,
      bytes: new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length),
      originalLength: header.originalLength,
    })
  }
}

/** A source that cannot be paused: chunks come from `feed` only, which is called for one at a time. */
class ManualSource extends EventEmitter {
  pause(): this {
    return this
  }
  resume(): this {
    return this
  }
}

/** Judges the first bytes of a file before the parser sees them. */
function recognise(start: Buffer): { isLittleEndian: boolean; isNanosecond: boolean } {
  if (start.length === 0) throw new PcapError('PCAP_EMPTY', 0, 'the file is empty')
  if (start[0] === 0x1f && start[1] === 0x8b) {
    const remedy = 'the file is compressed with gzip; unpack it first: gunzip -c IN > OUT'
    throw new PcapError('PCAP_COMPRESSED', 0, remedy)
  }
  if (start.length >= 4 && start.readUInt32BE(0) === 0x0a0d_0d0a) {
    const remedy =
      'the file is pcapng, which is not read here; convert it: ' +
      'tshark -F pcap -r IN -w OUT, or editcap -F pcap IN OUT'
    throw new PcapError('PCAP_NG', 0, remedy)
  }
  const little = start.length >= 4 ? start.readUInt32LE(0) : 0
  const big = start.length >= 4 ? start.readUInt32BE(0) : 0
  const isLittleEndian = little === MAGIC_MICRO || little === MAGIC_NANO
  const isNanosecond = little === MAGIC_NANO || big === MAGIC_NANO
  if (start.length >= 4 && !isLittleEndian && big !== MAGIC_MICRO && big !== MAGIC_NANO) {
    const magic = start.toString('hex', 0, 4)
    throw new PcapError('PCAP_NOT_PCAP', 0, `this is no pcap file: it begins with ${magic}`)
  }
  if (start.length < FILE_HEADER_LEN) {
    const message = `a file header has ${FILE_HEADER_LEN} bytes, the file only ${start.length}`
    throw new PcapError('PCAP_TRUNCATED', 0, message)
  }
  const major = isLittleEndian ? start.readUInt16LE(4) : start.readUInt16BE(4)
  const minor = isLittleEndian ? start.readUInt16LE(6) : start.readUInt16BE(6)
  if (major !== 2 || minor !== 4) {
    const message = `pcap version ${major}.${minor} is not read here, only 2.4`
    throw new PcapError('PCAP_VERSION', 4, message)
  }
  return { isLittleEndian, isNanosecond }
}

function withMicrosecondMagic(start: Buffer, isLittleEndian: boolean): Buffer {
  const copy = Buffer.from(start)
  if (isLittleEndian) copy.writeUInt32LE(MAGIC_MICRO, 0)
  else copy.writeUInt32BE(MAGIC_MICRO, 0)
  return copy
}

/**
 * Hostile arguments: whatever is passed, a call does exactly what a model of its contract says, or
 * throws and does nothing; bytes outside the slots never change.
 *
 * The arena is a view into the middle of a larger block whose other bytes are known, so a write
 * beside it is seen and not only hoped against.
 */
import fc from 'fast-check'
import t from 'tap'
import { whyNoRing } from '../io/device-fixture.js'
import { encodeName, endpoint4 } from '../io/endpoint.js'
import { BATCH_COLUMN_COUNT } from '../packet/batch.js'
import { ENTRY_STRIDE } from '../packet/entries.js'
import { native } from './native.js'

const ARENA = 256
const GUARD = 64
const FILL = 0xa5
const LOCALHOST = 0x7f000001

/** Values around every limit of an arena of 256 bytes, and far away. */
const edge = fc.oneof(
  fc.integer({ min: -2, max: 2 }),
  fc.integer({ min: ARENA - 2, max: ARENA + 2 }),
  fc.constantFrom(-(2 ** 31), 2 ** 31 - 1, 2 ** 31 - 8, 65536, -65536),
)

/** Mostly a value of the first kind, now and then one of the second. */
function mostly<A, B>(usual: fc.Arbitrary<A>, rare: fc.Arbitrary<B>): fc.Arbitrary<A | B> {
  return fc.oneof({ weight: 30, arbitrary: usual }, { weight: 1, arbitrary: rare })
}

const position = mostly(fc.integer({ min: 0, max: ARENA - 40 }), edge)

function createArena(): { whole: Uint8Array; bytes: Uint8Array } {
  const whole = new Uint8Array(new SharedArrayBuffer(ARENA + 2 * GUARD)).fill(FILL)
  return { whole, bytes: new Uint8Array(whole.buffer, GUARD, ARENA) }
}

/** Whether the call threw an argument error; any other error is passed on. */
function isRefused(call: () => unknown): boolean {
  try {
    call()
    return false
  } catch (error) {
    if (error instanceof RangeError && 'code' in error && error.code === 'ERR_OUT_OF_RANGE') {
      return true
    }
    throw error
  }
}

const receiver = native.udpSocket(4)
const sender = native.udpSocket(4)
native.bind(receiver, '127.0.0.1', 0)
const names = new Uint8Array(native.layout.NAME_SIZE)
encodeName(endpoint4(LOCALHOST, native.localAddress(receiver).port), names, 0)
t.teardown(() => {
  native.close(receiver)
  native.close(sender)
})

/** Sends `count` datagrams of `len` bytes, each byte `value`, to the receiver. */
function feed(count: number, len: number, value: number): void {
  const bytes = new Uint8Array(len).fill(value)
  const entries = new Int32Array(count * ENTRY_STRIDE)
  for (let i = 0; i < count; i++) {
    entries.set([0, 1, 0, 0, 0], i * ENTRY_STRIDE)
  }
  native.send(Int32Array.of(sender), bytes, Int32Array.of(0, len), entries, count, names)
  if (entries.some((value, at) => at % ENTRY_STRIDE === 4 && value !== 0)) {
    throw new Error('the loopback did not take the datagrams')
  }
}

/** Takes what waits in the receiver. @returns how many datagrams that was */
function drainReceiver(): number {
  const columns = new Int32Array(64 * BATCH_COLUMN_COUNT)
  return native.recv(receiver, new Uint8Array(ARENA), columns, 64, ARENA, 0)
}

t.test('recv fills the slots that it was given and nothing else', (t) => {
  const slots = fc.record({
    ats: fc.array(position, { minLength: 1, maxLength: 6 }),
    room: mostly(fc.integer({ min: 1, max: 40 }), edge),
    missing: mostly(fc.constant(0), fc.constantFrom(1, 11)),
    datagrams: fc.integer({ min: 0, max: 5 }),
    len: fc.integer({ min: 0, max: 80 }),
  })
  let received = 0
  fc.assert(
    fc.property(slots, ({ ats, room, missing, datagrams, len }) => {
      const capacity = ats.length
      const columns = new Int32Array(capacity * BATCH_COLUMN_COUNT - missing)
      columns.set(ats.slice(0, columns.length))
      const { whole, bytes } = createArena()
      const isLegal = missing === 0 && room >= 1 && ats.every((at) => at >= 0 && at + room <= ARENA)
      feed(datagrams, len, 0x11)
      let got = 0
      const refused = isRefused(() => {
        got = native.recv(receiver, bytes, columns, capacity, room, 3)
      })
      const rest = drainReceiver()
      received += got
      const want = new Uint8Array(whole.length).fill(FILL)
      for (let row = 0; row < got; row++) {
        const at = GUARD + ats[row]!
        want.fill(0x11, at, at + Math.min(len, room))
      }
      return (
        refused === !isLegal &&
        got === (isLegal ? Math.min(capacity, datagrams) : 0) &&
        got + rest === datagrams &&
        Buffer.compare(whole, want) === 0
      )
    }),
    { numRuns: 3000 },
  )
  t.ok(received > 1000, `${received} datagrams were received`)
  t.end()
})

t.test('send takes what its entries name, or sends nothing at all', (t) => {
  const entry = fc.record({
    first: mostly(fc.integer({ min: 0, max: 3 }), fc.constantFrom(4, 5, 2 ** 31 - 1, -1)),
    pieces: mostly(fc.integer({ min: 1, max: 2 }), fc.constantFrom(0, -1, 1025, 2 ** 31 - 1)),
    segment: mostly(fc.constant(0), fc.constantFrom(-1, 65536)),
    name: mostly(fc.constant(0), fc.constantFrom(1, -2, 32, 2 ** 31 - 1, -(2 ** 31))),
    socket: mostly(fc.constant(0), fc.constantFrom(1, -1, 2 ** 31 - 1)),
  })
  const order = fc.record({
    pieces: fc.array(fc.tuple(position, mostly(fc.nat(40), edge)), { minLength: 5, maxLength: 5 }),
    entries: fc.array(entry, { minLength: 1, maxLength: 3 }),
    extra: mostly(fc.constant(0), fc.constantFrom(1, -1, 2 ** 31 - 1)),
    length: mostly(fc.constant(16), fc.constantFrom(0, 17, 29, -1)),
    begin: mostly(fc.constantFrom(undefined, 0, 1), fc.constantFrom(2, 4, -1, 2 ** 31 - 1)),
  })
  let sent = 0
  fc.assert(
    fc.property(order, ({ pieces, entries, extra, length, begin }) => {
      const { whole, bytes } = createArena()
      const count = entries.length + extra
      const table = names.slice()
      new Int32Array(table.buffer)[7] = length
      const isPiece = (i: number): boolean => {
        const piece = pieces[i]
        return piece !== undefined && piece[0] >= 0 && piece[1] >= 0 && piece[0] + piece[1] <= ARENA
      }
      const first = begin ?? 0
      const isLegal =
        count >= 0 &&
        extra <= 0 &&
        first >= 0 &&
        first <= count &&
        entries
          .slice(first, count)
          .every(
            (e) =>
              e.segment >= 0 &&
              e.segment <= 65535 &&
              e.name === 0 &&
              e.socket === 0 &&
              length === 16 &&
              e.pieces >= 1 &&
              e.pieces <= 2 &&
              Array.from({ length: e.pieces }, (_, i) => e.first + i).every(isPiece),
          )
      const list = Int32Array.from(
        entries.flatMap((e) => [
          ...[e.first, e.pieces, e.segment, e.name, 77, e.socket],
          ...new Array<number>(ENTRY_STRIDE - 6).fill(0),
        ]),
      )
      let result = 0
      const refused = isRefused(() => {
        const words = Int32Array.from(pieces.flat())
        result = native.send(Int32Array.of(sender), bytes, words, list, count, table, begin)
      })
      const arrived = drainReceiver()
      const isTried = (i: number): boolean => isLegal && i >= first && i < count
      sent += arrived
      return (
        refused === !isLegal &&
        result === (isLegal ? count : 0) &&
        arrived === (isLegal ? count - first : 0) &&
        entries.every((_, i) => list[i * ENTRY_STRIDE + 4] === (isTried(i) ? 0 : 77)) &&
        whole.every((byte) => byte === FILL)
      )
    }),
    { numRuns: 5000 },
  )
  t.ok(sent > 1000, `${sent} entries were legal and arrived`)
  t.end()
})

t.test('checksum stays inside its range', (t) => {
  const { bytes } = createArena()
  fc.assert(
    fc.property(position, position, (at, len) => {
      const isLegal = at >= 0 && len >= 0 && at + len <= ARENA
      return isRefused(() => native.checksum(bytes, at, len)) === !isLegal
    }),
    { numRuns: 3000 },
  )
  t.end()
})

t.test('sums of steps and of rows stay inside their ranges', (t) => {
  const { bytes } = createArena()
  const out = new Int32Array(8)
  fc.assert(
    fc.property(position, position, edge, (at, len, step) => {
      const isLegal = at >= 0 && len >= 0 && at + len <= ARENA && step >= 1 && step < 2 ** 30
      return isRefused(() => native.checksumSteps(bytes, at, len, step, out)) === !isLegal
    }),
    { numRuns: 3000 },
  )
  fc.assert(
    fc.property(position, position, edge, mostly(fc.constant(1), edge), (at, len, step, count) => {
      const columns = new Int32Array(BATCH_COLUMN_COUNT)
      columns.set([at, len, step])
      const isRow = at >= 0 && len >= 0 && at + len <= ARENA
      const isLegal = count === 0 || (count === 1 && isRow)
      return isRefused(() => native.checksumRows(bytes, columns, 1, count, 0, out)) === !isLegal
    }),
    { numRuns: 3000 },
  )
  const short = new Int32Array(2 * BATCH_COLUMN_COUNT - 1)
  t.ok(isRefused(() => native.checksumRows(bytes, short, 2, 1, 0, out)))
  t.end()
})

t.test('values of another type never reach the kernel', (t) => {
  const odd = fc.oneof(
    fc.constantFrom<unknown>(
      undefined,
      null,
      true,
      '1',
      NaN,
      Infinity,
      -1,
      0.5,
      2 ** 32,
      -(2 ** 31),
    ),
    fc.constantFrom<unknown>(
      {},
      [],
      [1, 2],
      new Float64Array(40),
      new ArrayBuffer(400),
      Symbol('s'),
    ),
    fc.constantFrom<unknown>(new DataView(new ArrayBuffer(64)), new Int8Array(64), () => 1, 1n),
  )
  const bytes = new Uint8Array(ARENA)
  const columns = new Int32Array(BATCH_COLUMN_COUNT)
  const list = Int32Array.of(0, 1, 0, 0, 0, 0, 0, 0)
  const ring = whyNoRing() === false ? native.openRing() : null
  const calls: Record<string, unknown[]> = {
    tunRead: [receiver, bytes, columns, 1, 64, 0, ...(ring === null ? [] : [ring])],
    ...(ring === null ? {} : { closeRing: [ring] }),
    recv: [receiver, bytes, columns, 1, 64, 0],
    send: [sender, bytes, Int32Array.of(0, 1), list, 1, names],
    write: [sender, bytes, Int32Array.of(0, 1), list, 1],
    wait: [Int32Array.of(receiver), new Int32Array(1), 0, 0],
    checksum: [bytes, 0, 1],
    checksumSteps: [bytes, 0, 1, 1, new Int32Array(1)],
    checksumRows: [bytes, columns, 1, 0, 0, new Int32Array(1)],
    openTun: ['', false, false],
    setTunOffload: [receiver, 0],
    tunName: [receiver],
    udpSocket: [4],
    rawSocket: [4, 255, true],
    setOption: [receiver, 1, 2, 0],
    getOption: [receiver, 1, 2],
    receiveDrops: [receiver],
    loadFilter: [bytes],
    setTunSteering: [receiver, receiver],
    bind: [receiver, '127.0.0.1', 0, 'lo'],
    connect: [receiver, '127.0.0.1', 9],
    localAddress: [receiver],
    setInherited: [receiver, false],
    become: ['/nowhere', bytes, bytes],
    signal: [receiver],
    drain: [receiver],
    close: [receiver],
  }
  /** Those whose last argument may be left out. */
  const optional = ring === null ? { bind: true } : { bind: true, tunRead: true }
  const functions = native as unknown as Record<string, (...args: unknown[]) => unknown>
  const isArgumentError = (call: () => unknown): boolean => {
    try {
      call()
      return false
    } catch (error) {
      return error instanceof TypeError || error instanceof RangeError
    }
  }
  for (const [name, good] of Object.entries(calls)) {
    const place = fc.nat(good.length - 1)
    fc.assert(
      fc.property(place, odd, (i, value) => {
        const isLegal =
          (typeof good[i] === 'boolean' && value === true) ||
          (typeof good[i] === 'string' && typeof value === 'string') ||
          (name in optional && i === good.length - 1 && value === undefined) ||
          (name === 'wait' && i === 3 && value === -1) ||
          (name === 'setOption' && i === 3 && (value === -1 || value === -(2 ** 31)))
        const args = good.map((argument, j) => (j === i ? value : argument))
        return isLegal || isArgumentError(() => functions[name]?.(...args))
      }),
      { numRuns: 150 },
    )
    for (let count = 0; count < good.length - (name in optional ? 1 : 0); count++) {
      t.ok(
        isArgumentError(() => functions[name]?.(...good.slice(0, count))),
        `${name}, ${count}`,
      )
    }
  }
  t.end()
})

/**
 * Self-tests of the offloads of UDP sockets: messages to ourselves over the loopback, which must
 * arrive as they should. An option that can be set proves little: a kernel without UDP_SEGMENT
 * ignores it in a message and sends one long datagram.
 *
 * Two sockets on free ports of 127.0.0.1, each connected to the other, so that neither receives
 * from anybody else. They live for the test, a few milliseconds and `BUDGET_MS` at most.
 */
import { native, type Native } from '../native/native.js'
import { createArena } from '../packet/arena.js'
import { Batch } from '../packet/batch.js'
import { Entries } from '../packet/entries.js'
import { HEADROOM } from '../packet/layout.js'
import { describeErrno, describeFault } from './errno.js'

/** The calls that the tests make; other ones stand in for kernels that we do not have. */
export type SocketKernel = Pick<
  Native,
  | 'udpSocket'
  | 'bind'
  | 'connect'
  | 'localAddress'
  | 'setOption'
  | 'send'
  | 'recv'
  | 'wait'
  | 'close'
>

/** How a self-test ended; `unknown`: it could not be made, which says nothing about the offload. */
export type Outcome =
  | { readonly kind: 'passed' }
  | { readonly kind: 'failed'; readonly reason: string }
  | { readonly kind: 'unknown'; readonly reason: string }

export interface SocketAbilities {
  /** Whether a message can carry several packets (UDP_SEGMENT). */
  readonly runs: Outcome
  /** How many, if it passed; the fewest of any kernel if it is not known. */
  readonly maxRun: number
  /** Whether trains of datagrams arrive merged (UDP_GRO). */
  readonly trains: Outcome
}

/**
 * Packets that a message may carry: since Linux 6.10; before; and before 5.16, where a full message
 * of 64 was refused, as its headers were counted too (udp_send_skb).
 */
const LIMITS = [128, 64, 63] as const
const LEAST = 63
/** Packets of the test's train. */
const TRAIN = 8
/** Bytes of each packet: more than the headers that older kernels count, see LIMITS. */
const SIZE = 64
const ROWS = 2 * LIMITS[0]
const SLOT = HEADROOM + TRAIN * SIZE
const FREE = ROWS * SLOT
/** Milliseconds that all tests together may wait; the loopback needs a fraction of one. */
const BUDGET_MS = 50

const PASSED: Outcome = { kind: 'passed' }
const NO_NAME = -1
const NO_NAMES = new Uint8Array(0)

/** Tests what the sockets of this kernel can do. Never throws about a kernel that refuses. */
export function testSockets(kernel: SocketKernel = native): SocketAbilities {
  const fds: number[] = []
  try {
    return test(kernel, () => {
      const fd = kernel.udpSocket(4)
      fds.push(fd)
      kernel.bind(fd, '127.0.0.1', 0)
      return fd
    })
  } catch (error) {
    return describeUnknown(describeFault(error))
  } finally {
    for (const fd of fds) kernel.close(fd)
  }
}

function test(kernel: SocketKernel, open: () => number): SocketAbilities {
  const [from, to] = [open(), open()]
  kernel.connect(from, '127.0.0.1', kernel.localAddress(to).port)
  kernel.connect(to, '127.0.0.1', kernel.localAddress(from).port)
  const loop = new Loop(kernel, from, to)
  if (!loop.pass(1).isWhole) return describeUnknown('nothing passes the loopback')
  const { runs, maxRun } = testRuns(loop)
  if (runs.kind === 'passed') return { runs, maxRun, trains: testTrains(kernel, to, loop) }
  return { runs, maxRun, trains: { kind: 'unknown', reason: 'there is no train to send' } }
}

function describeUnknown(reason: string): SocketAbilities {
  const unknown = { kind: 'unknown', reason } as const
  return { runs: unknown, maxRun: LEAST, trains: unknown }
}

function testRuns(loop: Loop): { runs: Outcome; maxRun: number } {
  let reason = ''
  for (const count of LIMITS) {
    const { errno, isWhole, isLate, rows } = loop.pass(count)
    if (isWhole && rows === count) return { runs: PASSED, maxRun: count }
    if (errno === 0) {
      reason = `${count} packets in one send arrived as ${rows}`
      if (isLate) return { runs: { kind: 'unknown', reason }, maxRun: LEAST }
      break
    }
    reason = `a send of ${count} packets: ${describeErrno(errno)}`
  }
  return { runs: { kind: 'failed', reason }, maxRun: 1 }
}

function testTrains(kernel: SocketKernel, to: number, loop: Loop): Outcome {
  const { IPPROTO_UDP, UDP_GRO } = native.constants
  try {
    kernel.setOption(to, IPPROTO_UDP, UDP_GRO, 1)
  } catch (error) {
    return { kind: 'failed', reason: describeFault(error) }
  }
  const { isWhole, isLate, rows } = loop.pass(TRAIN)
  if (isWhole && rows === 1) return PASSED
  return {
    kind: isLate ? 'unknown' : 'failed',
    reason: `a train of ${TRAIN} packets arrived as ${rows}`,
  }
}

/** What became of a message. */
interface Passage {
  /** What the send said, 0 = it was taken. */
  readonly errno: number
  /** Whether all of its bytes arrived, in order, in datagrams of the right sizes. */
  readonly isWhole: boolean
  /** Whether what arrived in time was right but not all of it. */
  readonly isLate: boolean
  /** Rows in which it arrived: a train counts as one. */
  readonly rows: number
}

class Loop {
  private readonly kernel: SocketKernel
  private readonly from: number
  private readonly to: number
  private readonly arena = createArena(new ArrayBuffer(FREE + LIMITS[0] * SIZE))
  private readonly batch = new Batch(this.arena, 0, ROWS, SLOT)
  private readonly entries = new Entries(1)
  private readonly deadline = performance.now() + BUDGET_MS

  constructor(kernel: SocketKernel, from: number, to: number) {
    this.kernel = kernel
    this.from = from
    this.to = to
    // Bytes that tell where they are.
    for (let i = 0; i < LIMITS[0] * SIZE; i++) this.arena.bytes[FREE + i] = i * 7 + (i >> 8)
  }

  /** Sends a message of so many packets, the last a byte shorter, and takes in what comes of it. */
  pass(count: number): Passage {
    const { kernel, arena, entries } = this
    const len = count * SIZE - 1
    entries.clear()
    entries.add(FREE, len, NO_NAME, len)
    if (count > 1) entries.setSegment(0, SIZE)
    kernel.send(Int32Array.of(this.from), arena.bytes, entries.pieces, entries.entries, 1, NO_NAMES)
    const errno = entries.result(0)
    if (errno === 0) return this.receive(len)
    return { errno, isWhole: false, isLate: false, rows: 0 }
  }

  private receive(len: number): Passage {
    const { kernel, arena, batch } = this
    const fds = Int32Array.of(this.to)
    const revents = new Int32Array(1)
    let arrived = 0
    let rows = 0
    let isRight = true
    while (arrived < len && isRight) {
      const left = Math.ceil(this.deadline - performance.now())
      if (left <= 0 || kernel.wait(fds, revents, 0, left) === 0) break
      batch.rewind()
      const { columns, capacity, room } = batch
      batch.count = kernel.recv(this.to, arena.bytes, columns, capacity, room, 0)
      for (let row = 0; row < batch.count; row++, rows++) {
        isRight &&= this.isNext(row, arrived, len)
        arrived += batch.len(row)
      }
    }
    const isAll = arrived === len
    return { errno: 0, isWhole: isRight && isAll, isLate: isRight && !isAll, rows }
  }

  /** Whether a row has the bytes that come next, in datagrams of the right size. */
  private isNext(row: number, from: number, total: number): boolean {
    const { arena, batch } = this
    const len = batch.len(row)
    const segment = batch.segment(row)
    const isSized = segment === 0 ? len === Math.min(SIZE, total - from) : segment === SIZE
    if (batch.isTruncated(row) || !isSized || from + len > total) return false
    const got = Buffer.from(arena.bytes.buffer, batch.at(row), len)
    return got.equals(arena.bytes.subarray(FREE + from, FREE + from + len))
  }
}

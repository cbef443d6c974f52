/**
 * Round trips of small UDP datagrams, back to back: one request outstanding, the next as soon as its
 * answer is here. Run inside a namespace:
 *
 *     node exchange.js answer ADDRESS PORT
 *     node exchange.js ask ADDRESS PORT BYTES SECONDS
 *
 * Both ends sleep in poll() until a datagram arrives, as an ordinary program does, and neither
 * allocates while it runs. The asker prints one line of JSON: see {@link Exchange}. The answerer
 * prints `ready` and goes on until it is stopped.
 */
import { address, createArena } from '../../dataplane/index.js'
import { NAME_SIZE, writeName } from '../../dataplane/fib/nexthop.js'
import { UdpPort, openUdp } from '../../dataplane/io/udp-port.js'
import { native } from '../../dataplane/native/native.js'
import { Batch } from '../../dataplane/packet/batch.js'
import { Entries } from '../../dataplane/packet/entries.js'
import { percentile } from '../lib/statistics.js'

export interface Exchange {
  /** Answered requests that were counted, and requests without an answer. */
  readonly count: number
  readonly lost: number
  /** Round trips, microseconds. */
  readonly p50: number
  readonly p99: number
  readonly p999: number
}

const SLOT = 2048
/** A request without an answer for so long is lost. */
const PATIENCE_MS = 200
/** Exchanges before the first that counts. */
const WARM_UP = 500
const MOST = 1_000_000

const arena = createArena(new ArrayBuffer(2 * SLOT))
const batch = new Batch(arena, SLOT, 1, SLOT)
const names = new Uint8Array(NAME_SIZE)
const out = new Entries(1, 1)
const events = new Int32Array(1)

/** Waits for one datagram. @returns whether one came in time */
function receive(socket: UdpPort, fds: Int32Array, timeoutMs: number): boolean {
  batch.rewind()
  if (socket.receive(batch) > 0) return true
  native.wait(fds, events, 0, timeoutMs)
  batch.rewind()
  return socket.receive(batch) > 0
}

function answer(host: string, port: number): never {
  const socket = new UdpPort(openUdp({ family: 4, address: host, port }), arena)
  const fds = Int32Array.of(socket.fd)
  process.stdout.write('ready\n')
  for (;;) {
    if (!receive(socket, fds, 1000)) continue
    writeName(names, 0, 4, batch.source(0, 0), 0, 0, 0, batch.port(0))
    out.clear()
    out.add(batch.at(0), batch.len(0), 0, batch.len(0))
    socket.send(out, names)
  }
}

function ask(host: string, port: number, bytes: number, seconds: number): Exchange {
  const socket = new UdpPort(openUdp({ family: 4, port: 0 }), arena)
  const fds = Int32Array.of(socket.fd)
  const bits = address.parseAddress4(host)
  if (bits === null) throw new Error(`${host} is no IPv4 address`)
  writeName(names, 0, 4, bits, 0, 0, 0, port)
  const times = new Float64Array(MOST)
  const { view } = arena
  let count = 0
  let lost = 0
  let sequence = 0
  let until = Infinity
  for (let now = performance.now(); now < until && count < MOST; now = performance.now()) {
    if (++sequence === WARM_UP) until = now + seconds * 1000
    view.setUint32(0, sequence)
    out.clear()
    out.add(0, bytes, 0, bytes)
    const start = performance.now()
    socket.send(out, names)
    // An answer that comes after all belongs to an earlier request.
    let isHere = receive(socket, fds, PATIENCE_MS)
    while (isHere && view.getUint32(batch.at(0)) !== sequence) {
      isHere = receive(socket, fds, PATIENCE_MS)
    }
    if (sequence <= WARM_UP) continue
    if (isHere) times[count++] = (performance.now() - start) * 1000
    else lost++
  }
  socket.close()
  const sorted = times.subarray(0, count).sort()
  return {
    count,
    lost,
    p50: percentile(sorted, 0.5),
    p99: percentile(sorted, 0.99),
    p999: percentile(sorted, 0.999),
  }
}

const [mode, host = '', port = '0', bytes = '64', seconds = '1'] = process.argv.slice(2)
if (mode === 'answer') answer(host, Number(port))
process.stdout.write(`${JSON.stringify(ask(host, Number(port), Number(bytes), Number(seconds)))}\n`)

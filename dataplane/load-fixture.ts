/**
 * Load for the tests of overload, as a program for the inside of a namespace:
 *
 *     load-fixture.js send ADDRESS PORT RUN HEX    RUN datagrams HEX at a time, as fast as it can
 *     load-fixture.js pace ADDRESS PORT RUN HEX    the same every millisecond
 *     load-fixture.js take ADDRESS PORT            receives and counts
 *
 * All run until SIGTERM, 64 datagrams or runs a call, so that they are not what limits. A sender prints
 * {"sending":true} with its first call and, at its end, {"sent":…,"seconds":…}: datagrams that the kernel took.
 * A receiver prints {"taking":true} and, at its end, {"taken":…,"overflow":…}, the latter those that it was too slow for.
 */
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { parseAddress4 } from './address.js'
import { NAME_SIZE, writeName } from './fib/nexthop.js'
import { openUdp, UdpPort } from './io/udp-port.js'
import { native } from './native/native.js'
import { createArena } from './packet/arena.js'
import { Batch } from './packet/batch.js'
import { Entries } from './packet/entries.js'

/** Datagrams, or runs of them, a call. */
const BATCH = 64
const SLOT = 2048
/** Calls between two looks at the event loop, where the signal arrives. */
const CALLS = 16
const PERIOD_MS = 50
/** A buffer of 32 MiB, so that a receiver outlives a pause. */
const BUFFER = 32 << 20

const [mode = '', host = '', port = '', run = '1', hex = ''] = process.argv.slice(2)
let isOver = false
process.once('SIGTERM', () => {
  isOver = true
})

function say(what: object): void {
  process.stdout.write(`${JSON.stringify(what)}\n`)
}

/** @param isPaced  one run a millisecond, rather than what the kernel takes */
async function send(datagram: Buffer, length: number, isPaced: boolean): Promise<void> {
  const arena = createArena(new ArrayBuffer(datagram.length * length))
  for (let i = 0; i < length; i++) arena.bytes.set(datagram, i * datagram.length)
  const socket = new UdpPort(openUdp({ family: 4, port: 0 }), arena)
  const names = new Uint8Array(NAME_SIZE)
  writeName(names, 0, 4, parseAddress4(host) ?? 0, 0, 0, 0, Number(port))
  const out = new Entries(BATCH, length)
  const [batch, calls] = isPaced ? [1, 1] : [BATCH, CALLS]
  for (let i = 0; i < batch; i++) {
    const entry = out.begin(0)
    for (let k = 0; k < length; k++) out.addPiece(entry, k * datagram.length, datagram.length)
    if (length > 1) out.setSegment(entry, datagram.length)
  }
  let sent = 0
  say({ sending: true })
  const start = performance.now()
  while (!isOver) {
    for (let call = 0; call < calls; call++) {
      socket.send(out, names)
      for (let i = 0; i < out.count; i++) if (out.result(i) === 0) sent += length
    }
    if (isPaced) await sleep(1)
    else await turn()
  }
  say({ sent, seconds: (performance.now() - start) / 1000 })
  socket.close()
}

async function take(): Promise<void> {
  const arena = createArena(new ArrayBuffer(BATCH * SLOT))
  const options = { family: 4, address: host, port: Number(port), receiveBuffer: BUFFER } as const
  const socket = new UdpPort(openUdp(options), arena)
  const batch = new Batch(arena, 0, BATCH, SLOT)
  const fds = Int32Array.of(socket.fd)
  const events = new Int32Array(1)
  let taken = 0
  say({ taking: true })
  while (!isOver) {
    const end = performance.now() + PERIOD_MS
    while (performance.now() < end) {
      batch.rewind()
      const got = socket.receive(batch)
      taken += got
      if (got === 0) native.wait(fds, events, 0, PERIOD_MS)
    }
    await turn()
  }
  for (let got = -1; got !== 0; taken += got) {
    batch.rewind()
    got = socket.receive(batch)
  }
  say({ taken, overflow: socket.drops() })
  socket.close()
}

await (mode === 'take' ? take() : send(Buffer.from(hex, 'hex'), Number(run), mode === 'pace'))

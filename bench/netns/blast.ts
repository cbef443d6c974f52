/**
 * A sender and a counter of small UDP datagrams, run inside a namespace:
 *
 *     node blast.js send ADDRESS PORT BYTES SECONDS [gso]
 *     node blast.js count ADDRESS PORT SECONDS
 *
 * Both move 64 datagrams per call, so that they are not what is measured. The counter prints `ready`
 * once it listens and ends when nothing has come for a while. Each prints one line of JSON.
 */
import { address, createArena } from '../../dataplane/index.js'
import { NAME_SIZE, writeName } from '../../dataplane/fib/nexthop.js'
import { UdpPort, openUdp } from '../../dataplane/io/udp-port.js'
import { Batch } from '../../dataplane/packet/batch.js'
import { Entries } from '../../dataplane/packet/entries.js'
import { native } from '../../dataplane/native/native.js'

const BATCH = 64
const SLOT = 2048
const WAIT_MS = 50
/** The counter ends after so much silence, or when nothing at all came for so long. */
const SILENCE_MS = 250
const PATIENCE_MS = 5000

const [mode = '', host = '', port = '0', ...rest] = process.argv.slice(2)
const arena = createArena(new ArrayBuffer(BATCH * SLOT))

function send(bytes: number, seconds: number, isGso: boolean): { packets: number } {
  const socket = new UdpPort(openUdp({ family: 4, port: 0 }), arena)
  const names = new Uint8Array(NAME_SIZE)
  const bits = address.parseAddress4(host)
  if (bits === null) throw new Error(`${host} is no IPv4 address`)
  writeName(names, 0, 4, bits, 0, 0, 0, Number(port))
  const out = new Entries(BATCH, BATCH)
  if (isGso) {
    const entry = out.begin(0)
    for (let i = 0; i < BATCH; i++) out.addPiece(entry, i * bytes, bytes)
    out.setSegment(entry, bytes)
  } else {
    for (let i = 0; i < BATCH; i++) out.add(i * bytes, bytes, 0, bytes)
  }
  const until = performance.now() + seconds * 1000
  let packets = 0
  while (performance.now() < until) {
    socket.send(out, names)
    for (let i = 0; i < out.count; i++) if (out.result(i) === 0) packets += isGso ? BATCH : 1
  }
  socket.close()
  return { packets }
}

/** @returns datagrams, and the time from the first to the last of them */
function count(seconds: number): { packets: number; seconds: number } {
  const socket = new UdpPort(openUdp({ family: 4, address: host, port: Number(port) }), arena)
  const batch = new Batch(arena, 0, BATCH, SLOT)
  const fds = Int32Array.of(socket.fd)
  const events = new Int32Array(1)
  process.stdout.write('ready\n')
  let first = 0
  let packets = 0
  let last = performance.now()
  const deadline = last + seconds * 1000 + PATIENCE_MS
  for (;;) {
    batch.rewind()
    const got = socket.receive(batch)
    const now = performance.now()
    if (got > 0) {
      if (packets === 0) first = now
      last = now
      packets += got
      continue
    }
    if (now > deadline || (packets > 0 && now - last > SILENCE_MS)) break
    native.wait(fds, events, 0, WAIT_MS)
  }
  socket.close()
  return { packets, seconds: packets === 0 ? 0 : (last - first) / 1000 }
}

const result =
  mode === 'send'
    ? send(Number(rest[0]), Number(rest[1]), rest[2] === 'gso')
    : count(Number(rest[0]))
process.stdout.write(`${JSON.stringify(result)}\n`)

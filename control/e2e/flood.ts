/**
 * A flood of hostile datagrams, as a program for the inside of a namespace:
 *
 *   flood.js ADDRESS PORT SECONDS LARGEST SEED TO FROM
 *
 * Half of them are the packets of hostile-packets.ts (those of up to LARGEST bytes), half are 0 to
 * LARGEST random bytes. Prints {"flooding":true} with the first one, and at the end how many the
 * socket took.
 */
import { createSocket } from 'node:dgram'
import { setImmediate as turn } from 'node:timers/promises'
import { fillPattern } from '../lab/pattern.js'
import { hostileDatagrams } from './hostile-packets.js'

export interface FloodReport {
  /** Datagrams that the kernel took. */
  readonly sent: number
  /** Of these, packets that the daemon has to deliver. */
  readonly valid: number
  readonly refused: number
}

/** Datagrams between two looks at the clock. */
const TRAIN = 32
/** Different random datagrams of one run. */
const RANDOM = 509

const [address = '', port = '', seconds = '', largest = '', seed = '', to = '', from = ''] =
  process.argv.slice(2)

const crafted = hostileDatagrams(to, from, address).filter((d) => d.bytes.length <= Number(largest))
const random = Array.from({ length: RANDOM }, (_, i) => {
  // The first few are short, where a length check may be off by one; then all sizes alike.
  const size = i < 64 ? i : Math.floor(((i - 64) / (RANDOM - 65)) * Number(largest))
  const bytes = Buffer.alloc(size)
  fillPattern(bytes, Number(seed) + i)
  return bytes
})

const socket = createSocket('udp4')
await new Promise<void>((resolve) => {
  socket.connect(Number(port), address, resolve)
})
// A daemon that has stopped refuses (ECONNREFUSED); the flood goes on all the same.
socket.on('error', () => undefined)
let sent = 0
let valid = 0
let refused = 0
let waiting = 0
process.stdout.write('{"flooding":true}\n')
const end = performance.now() + Number(seconds) * 1000
for (let n = 0; performance.now() < end; n += TRAIN) {
  for (let i = n; i < n + TRAIN; i++) {
    const packet = i % 2 === 0 ? crafted[(i / 2) % crafted.length] : undefined
    waiting++
    socket.send(packet?.bytes ?? random[i % RANDOM] ?? '', (error) => {
      waiting--
      if (error !== null) refused++
      else {
        sent++
        if (packet?.verdict === 'forward') valid++
      }
    })
  }
  await turn()
}
while (waiting > 0) await turn()
socket.close()
const report: FloodReport = { sent, valid, refused }
process.stdout.write(`${JSON.stringify(report)}\n`)

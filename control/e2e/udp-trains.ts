/**
 * A sender of UDP super-packets, as a program for the inside of a namespace:
 *
 *   udp-trains.js ADDRESS PORT TRAINS SIZE
 *
 * Each train is one send of 40 numbered datagrams of SIZE bytes (UDP_SEGMENT), which the tool's
 * udp-receive in lab/transfer.ts checks. Prints {"sent":N}.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import {
  address as addresses,
  createArena,
  createFib,
  createHopTable,
  Entries,
  openUdp,
  UdpPort,
} from '../../dataplane/index.js'
import { fillDatagram } from '../lab/transfer-udp.js'

const PER_TRAIN = 40

const [address = '', port = '', trains = '', size = ''] = process.argv.slice(2)
const len = Number(size)
const count = Number(trains) * PER_TRAIN
const bits = addresses.parseAddress4(address)
if (bits === null) throw new Error(`${address} is no IPv4 address`)

const fib = createFib({ readers: 1 })
const hops = createHopTable(fib.shared)
const name = hops.name(fib.hops.addPeer(bits, Number(port)))
const arena = createArena(new ArrayBuffer(PER_TRAIN * len))
const socket = new UdpPort(openUdp({ family: 4, port: 0 }), arena)
const entries = new Entries(1)
let sent = 0
while (sent < count) {
  for (let i = 0; i < PER_TRAIN; i++, sent++) {
    fillDatagram(Buffer.from(arena.bytes.buffer, i * len, len), sent, count, 1)
  }
  entries.clear()
  entries.add(0, PER_TRAIN * len, name, PER_TRAIN * len)
  entries.setSegment(0, len)
  socket.send(entries, hops.names)
  if (entries.result(0) !== 0) throw new Error(`errno ${entries.result(0)}`)
  await sleep(1)
}
socket.close()
process.stdout.write(`${JSON.stringify({ sent })}\n`)

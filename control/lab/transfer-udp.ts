/**
 * Numbered datagrams, each with a hash of its payload: loss, duplication, reordering and damage are counted.
 *
 *    0               4               8                              24
 *   +---------------+---------------+------------------------------+------------------+
 *   | number        | how many      | first 16 bytes of SHA-256    | payload          |
 *   +---------------+---------------+------------------------------+------------------+
 */
import { createHash } from 'node:crypto'
import { type Socket, createSocket } from 'node:dgram'
import { setTimeout as sleep } from 'node:timers/promises'
import { fillPattern } from './pattern.js'

const HEADER = 24
/** Smallest and largest datagram payload, bytes (RFC 768 over IPv4 without options). */
export const UDP_MIN = HEADER
export const UDP_MAX = 65507

export interface UdpSendResult {
  readonly sent: number
  readonly bytes: number
  readonly seconds: number
}

export interface UdpReceiveResult {
  /** Different datagrams that arrived whole. */
  readonly received: number
  readonly lost: number
  readonly duplicates: number
  /** Datagrams with a smaller number than one that came before. */
  readonly reordered: number
  /** Datagrams whose hash is wrong; never counted as received. */
  readonly damaged: number
  readonly bytes: number
  /** First to last datagram. */
  readonly seconds: number
}

function digest(payload: Uint8Array): Buffer {
  return createHash('sha256').update(payload).digest().subarray(0, 16)
}

/**
 * Fills in a numbered datagram.
 * @param number  0 .. count − 1
 * @param seed    of its payload
 */
export function fillDatagram(datagram: Buffer, number: number, count: number, seed: number): void {
  fillPattern(datagram.subarray(HEADER), seed + number)
  datagram.writeUInt32BE(number, 0)
  datagram.writeUInt32BE(count, 4)
  digest(datagram.subarray(HEADER)).copy(datagram, 8)
}

/** Takes datagrams in until all announced ones are there, or none came for `idleMs`. */
export function udpReceive(
  address: string,
  port: number,
  idleMs: number,
  onListening: (port: number) => void,
): Promise<UdpReceiveResult> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
    const seen = new Set<number>()
    let [expected, highest, duplicates, reordered, damaged, bytes, first, last] = [
      0, -1, 0, 0, 0, 0, 0, 0,
    ]
    const finish = (): void => {
      socket.close()
      const seconds = (last - first) / 1000
      const lost = Math.max(expected - seen.size, 0)
      resolve({ received: seen.size, lost, duplicates, reordered, damaged, bytes, seconds })
    }
    const timer = setTimeout(finish, idleMs)
    socket.on('message', (datagram) => {
      last = performance.now()
      if (first === 0) first = last
      timer.refresh()
      const whole =
        datagram.length >= HEADER &&
        digest(datagram.subarray(HEADER)).equals(datagram.subarray(8, HEADER))
      if (!whole) {
        damaged++
        return
      }
      const number = datagram.readUInt32BE(0)
      expected = datagram.readUInt32BE(4)
      if (seen.has(number)) {
        duplicates++
        return
      }
      if (number < highest) reordered++
      highest = Math.max(highest, number)
      seen.add(number)
      bytes += datagram.length
      if (seen.size === expected) {
        clearTimeout(timer)
        finish()
      }
    })
    socket.once('error', reject)
    socket.bind(port, address, () => {
      // The default buffer holds fewer datagrams than one scheduling gap brings; refused beyond rmem_max.
      socket.setRecvBufferSize(4 * 1024 * 1024)
      onListening(socket.address().port)
    })
  })
}

/**
 * Sends numbered datagrams.
 * @param size       whole datagram payload, UDP_MIN..UDP_MAX bytes
 * @param perSecond  pace; 0 = as fast as the socket takes them
 */
export async function udpSend(
  address: string,
  port: number,
  count: number,
  size: number,
  seed: number,
  perSecond: number,
): Promise<UdpSendResult> {
  if (size < UDP_MIN || size > UDP_MAX) throw new RangeError(`${size} is no size of a datagram`)
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  const start = performance.now()
  for (let number = 0; number < count; number++) {
    const datagram = Buffer.allocUnsafe(size)
    fillDatagram(datagram, number, count, seed)
    await send(socket, datagram, address, port)
    const ahead = perSecond > 0 ? (number / perSecond) * 1000 - (performance.now() - start) : 0
    if (ahead > 1) await sleep(ahead)
  }
  socket.close()
  return { sent: count, bytes: count * size, seconds: (performance.now() - start) / 1000 }
}

function send(socket: Socket, datagram: Buffer, address: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.send(datagram, port, address, (error) => {
      if (error === null) resolve()
      else reject(error)
    })
  })
}

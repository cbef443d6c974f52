/**
 * Datagrams of every size, as a program for the inside of a namespace:
 *
 *   udp-sizes.js receive ADDRESS PORT IDLE_MS    prints {"listening":PORT}, then what arrived
 *   udp-sizes.js send    ADDRESS PORT SIZES      SIZES such as 0-1444,4000,65507
 *
 * What a datagram holds follows from its size, so its receiver can tell whether every byte is right
 * without having been told anything, down to the empty datagram.
 */
import { createSocket, type Socket } from 'node:dgram'
import { setTimeout as sleep } from 'node:timers/promises'
import { fillPattern } from '../lab/pattern.js'

export interface SizesReport {
  /** Sizes of the datagrams that arrived whole, in order of arrival. */
  readonly whole: readonly number[]
  /** Datagrams with a wrong byte. */
  readonly damaged: number
}

/** Datagrams that are sent before the receiver gets a moment to catch up. */
const TRAIN = 16

function content(size: number): Buffer {
  const bytes = Buffer.alloc(size)
  fillPattern(bytes, size)
  return bytes
}

/** `0-3,9` is 0, 1, 2, 3, 9. */
function parseSizes(text: string): number[] {
  return text.split(',').flatMap((part) => {
    const [from = 0, to = from] = part.split('-').map(Number)
    return Array.from({ length: to - from + 1 }, (_, i) => from + i)
  })
}

function receive(address: string, port: number, idleMs: number): Promise<SizesReport> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4')
    const whole: number[] = []
    let damaged = 0
    const timer = setTimeout(() => {
      socket.close()
      resolve({ whole, damaged })
    }, idleMs)
    socket.on('message', (datagram) => {
      timer.refresh()
      if (datagram.equals(content(datagram.length))) whole.push(datagram.length)
      else damaged++
    })
    socket.once('error', reject)
    socket.bind(port, address, () => {
      socket.setRecvBufferSize(4 * 1024 * 1024)
      print({ listening: socket.address().port })
    })
  })
}

async function send(address: string, port: number, sizes: readonly number[]): Promise<object> {
  const socket = createSocket('udp4')
  for (const [i, size] of sizes.entries()) {
    await sendOne(socket, content(size), address, port)
    if (i % TRAIN === TRAIN - 1 || size > 1500) await sleep(1)
  }
  socket.close()
  return { sent: sizes.length }
}

function sendOne(socket: Socket, bytes: Buffer, address: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.send(bytes, port, address, (error) => {
      if (error === null) resolve()
      else reject(error)
    })
  })
}

function print(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`)
}

const [mode = '', address = '', port = '', what = ''] = process.argv.slice(2)
print(
  mode === 'receive'
    ? await receive(address, Number(port), Number(what))
    : await send(address, Number(port), parseSizes(what)),
)

/**
 * A bulk transfer over TCP whose both ends hash what they handled.
 *
 * The sender closes its half when all is sent; the receiver answers with its own result as one JSON
 * line, so the sender knows what arrived and when the last byte did.
 */
import { createHash } from 'node:crypto'
import { type Socket, connect, createServer } from 'node:net'
import { continuePattern, fillPattern } from './pattern.js'

const CHUNK = 256 * 1024

export interface TcpResult {
  readonly bytes: number
  /** Hexadecimal SHA-256 of the bytes in order. */
  readonly sha256: string
  /** Receiver: first to last byte. Sender: connection up to the receiver's answer. */
  readonly seconds: number
  readonly mbitPerSecond: number
}

export interface TcpSendResult extends TcpResult {
  /** What the receiver says it got. */
  readonly received: TcpResult
}

function result(bytes: number, sha256: string, startMs: number, endMs: number): TcpResult {
  const seconds = Math.max(endMs - startMs, 0.001) / 1000
  return { bytes, sha256, seconds, mbitPerSecond: (bytes * 8) / seconds / 1e6 }
}

/** Accepts one connection, takes everything in, answers, and settles with what arrived. */
export function tcpReceive(
  address: string,
  port: number,
  onListening: (port: number) => void,
): Promise<TcpResult> {
  return new Promise((resolve, reject) => {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      server.close()
      takeIn(socket).then(resolve, reject)
    })
    server.once('error', reject)
    server.listen(port, address, () => {
      const bound = server.address()
      onListening(typeof bound === 'object' && bound !== null ? bound.port : port)
    })
  })
}

function takeIn(socket: Socket): Promise<TcpResult> {
  return new Promise((resolve, reject) => {
    const hash = createHash('sha256')
    let bytes = 0
    let first = 0
    let last = 0
    socket.on('data', (chunk) => {
      last = performance.now()
      if (bytes === 0) first = last
      bytes += chunk.length
      hash.update(chunk)
    })
    socket.once('error', reject)
    socket.once('end', () => {
      const arrived = result(bytes, hash.digest('hex'), first, last)
      socket.end(`${JSON.stringify(arrived)}\n`)
      socket.once('close', () => {
        resolve(arrived)
      })
    })
  })
}

/**
 * Sends `bytes` bytes of the seeded stream and waits for the receiver's answer.
 * @throws Error when the connection fails or the receiver does not answer
 */
export async function tcpSend(
  address: string,
  port: number,
  bytes: number,
  seed: number,
): Promise<TcpSendResult> {
  const socket = connect({ host: address, port })
  await once(socket, 'connect')
  const start = performance.now()
  const answer = readAll(socket)
  const hash = createHash('sha256')
  let state: number | null = null
  for (let left = bytes; left > 0; left -= CHUNK) {
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK, left))
    state = state === null ? fillPattern(chunk, seed) : continuePattern(chunk, state)
    hash.update(chunk)
    if (!socket.write(chunk)) await Promise.race([once(socket, 'drain'), answer])
  }
  socket.end()
  const received = JSON.parse(await answer) as TcpResult
  return { ...result(bytes, hash.digest('hex'), start, performance.now()), received }
}

function once(socket: Socket, event: 'connect' | 'drain'): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error): void => {
      reject(cause)
    }
    socket.once('error', fail)
    socket.once(event, () => {
      socket.off('error', fail)
      resolve()
    })
  })
}

function readAll(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk.toString()
    })
    socket.once('error', reject)
    socket.once('end', () => {
      resolve(text)
    })
  })
}

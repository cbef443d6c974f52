/**
 * The transfer tool over loopback.
 * @parallel
 */
import { createHash } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { connect } from 'node:net'
import t from 'tap'
import { continuePattern, fillPattern } from './pattern.js'
import { type TcpResult, tcpReceive, tcpSend } from './transfer-tcp.js'
import { type UdpReceiveResult, udpReceive, udpSend } from './transfer-udp.js'

t.test('the stream is the same for the same seed, however it is cut', (t) => {
  const whole = new Uint8Array(4096)
  fillPattern(whole, 7)
  const first = new Uint8Array(1024)
  const second = new Uint8Array(3072)
  continuePattern(second, fillPattern(first, 7))
  t.same(Buffer.concat([first, second]), Buffer.from(whole))
  const others = [0, 1, 6, 8, -7].map((seed) => {
    const other = new Uint8Array(16)
    fillPattern(other, seed)
    return Buffer.from(other).toString('hex')
  })
  t.equal(new Set([...others, Buffer.from(whole.subarray(0, 16)).toString('hex')]).size, 6)
  t.ok(new Set(whole).size > 200, 'most byte values occur')
  t.end()
})

t.test('TCP: both ends hash the same bytes', async (t) => {
  for (const bytes of [0, 1, 262_144, 1_000_003]) {
    const ends: Promise<TcpResult>[] = []
    const port = await new Promise<number>((resolve) => {
      ends.push(tcpReceive('127.0.0.1', 0, resolve))
    })
    const sent = await tcpSend('127.0.0.1', port, bytes, 42)
    const received = await ends[0]
    t.equal(sent.bytes, bytes)
    t.equal(received?.bytes, bytes)
    t.equal(received?.sha256, sent.sha256, `${bytes} bytes`)
    t.same(sent.received, received)
  }
})

t.test('TCP: other bytes have another hash', async (t) => {
  const ends: Promise<TcpResult>[] = []
  const port = await new Promise<number>((resolve) => {
    ends.push(tcpReceive('127.0.0.1', 0, resolve))
  })
  const socket = connect(port, '127.0.0.1')
  socket.end('abc')
  t.equal((await ends[0])?.sha256, createHash('sha256').update('abc').digest('hex'))
  t.equal((await ends[0])?.sha256.slice(0, 8), 'ba7816bf', 'FIPS 180-2, appendix B.1')
  socket.destroy()
})

t.test('TCP: nobody listens', async (t) => {
  await t.rejects(tcpSend('127.0.0.1', 1, 10, 1), { code: 'ECONNREFUSED' })
})

/** A receiver with a short patience, and its port. */
async function udpReceiver(): Promise<{ port: number; end: Promise<UdpReceiveResult> }> {
  const ends: Promise<UdpReceiveResult>[] = []
  const port = await new Promise<number>((resolve) => {
    ends.push(udpReceive('127.0.0.1', 0, 300, resolve))
  })
  const end = ends[0]
  if (end === undefined) throw new Error('no receiver')
  return { port, end }
}

t.test('UDP: all arrive', async (t) => {
  for (const size of [24, 25, 1472, 65507]) {
    const { port, end } = await udpReceiver()
    await udpSend('127.0.0.1', port, 20, size, 1, 2000)
    const want = {
      received: 20,
      lost: 0,
      duplicates: 0,
      reordered: 0,
      damaged: 0,
      bytes: 20 * size,
    }
    t.match(await end, want, `${size} bytes`)
  }
  await t.rejects(udpSend('127.0.0.1', 9, 1, 23, 1, 0), RangeError)
  await t.rejects(udpSend('127.0.0.1', 9, 1, 65508, 1, 0), RangeError)
})

t.test('UDP: loss, duplicates, reordering and damage are told apart', async (t) => {
  const hex = (number: number, payload: string, hash?: string): Buffer => {
    const data = Buffer.from(payload)
    const head = Buffer.alloc(8)
    head.writeUInt32BE(number, 0)
    head.writeUInt32BE(6, 4)
    const sum = createHash('sha256')
      .update(hash ?? payload)
      .digest()
      .subarray(0, 16)
    return Buffer.concat([head, sum, data])
  }
  const { port, end } = await udpReceiver()
  const socket = createSocket('udp4')
  const train = [
    hex(0, 'a'),
    hex(2, 'c'),
    hex(1, 'b'),
    hex(2, 'c'),
    hex(3, 'd', 'D'),
    Buffer.from('x'),
  ]
  for (const datagram of train) {
    await new Promise((resolve) => {
      socket.send(datagram, port, '127.0.0.1', resolve)
    })
  }
  t.match(await end, { received: 3, lost: 3, duplicates: 1, reordered: 1, damaged: 2 })
  socket.close()
})

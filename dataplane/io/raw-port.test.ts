import t from 'tap'
import { LOCALHOST, createBench, openPort, payload } from './device-fixture.js'
import { encodeName, endpoint4 } from './endpoint.js'
import { RawPort, openRaw } from './raw-port.js'

t.test('sends a packet whose source address is chosen by the sender', (t) => {
  const { arena, batch, entries, names, free } = createBench()
  const receiver = openPort(arena)
  const raw = new RawPort(openRaw(), arena)
  // RFC 791 header: version 4, 20 bytes, id 0, TTL 8, UDP, sum left to the kernel, from
  // 127.0.0.77 to 127.0.0.1; RFC 768 header: ports 7777 and the receiver's, 10 bytes, no sum.
  const packet = Buffer.from(
    '4500001e0000000008110000 7f00004d 7f000001'.replaceAll(' ', ''),
    'hex',
  )
  const udp = Buffer.from('1e610000000a00006869', 'hex')
  udp.writeUInt16BE(receiver.port, 2)
  arena.bytes.set(Buffer.concat([packet, udp]), free)
  encodeName(endpoint4(LOCALHOST, 0), names, 0)
  entries.add(free, 30, 0, 30)
  raw.send(entries, names)
  t.equal(entries.result(0), 0)
  t.equal(receiver.receive(batch), 1)
  t.equal(payload(batch, 0).toString(), 'hi')
  t.equal(batch.source(0, 0), 0x7f00004d)
  t.equal(batch.port(0), 7777)
  raw.close()
  receiver.close()
  t.end()
})

/**
 * A flow whose datagrams are partly sent in fragments leaves by two sockets, since fragments have no
 * ports. Runs must not bring one kind before the other.
 */
import t from 'tap'
import * as flow from './flow-fixture.js'
import { ALL_OFFLOADS, createTestHost } from './host-fixture.js'

const FIRST = 0x2000
const LATER = 0x0010
/** Headers of VXLAN and Ethernet before each packet sent. */
const BEFORE = 22
const ID_AT = BEFORE + 4

t.test('whole datagrams and fragments in turn', async (t) => {
  const host = createTestHost({ encap: 'vxlan', offload: ALL_OFFLOADS, sockets: 8 })
  const ids = Array.from({ length: 24 }, (_, i) => i + 1)
  const kinds = [0, 0, FIRST, LATER, 0, FIRST, 0, 0]
  for (const id of ids) {
    const fragment = kinds[id % kinds.length]!
    const payload = flow.createPayload(100)
    const spec = {
      from: flow.HOST_A,
      to: flow.HOST_B,
      protocol: flow.UDP,
      ports: [4000, 53] as const,
    }
    host.inside.inject(flow.createPacket({ ...spec, id, fragment, payload }))
  }
  host.engine.breath()
  const sent = host.outside.drain()
  t.same(
    sent.map(({ bytes }) => Buffer.from(bytes).readUInt16BE(ID_AT)),
    ids,
  )
})

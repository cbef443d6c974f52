/**
 * Neither direction starves the other, whatever a row of a batch stands for: one packet, or a train or
 * super-packet of many.
 */
import t from 'tap'
import { EGRESS, INGRESS, READ } from './counters.js'
import * as flow from './flow-fixture.js'
import type { TestHost } from './host-fixture.js'
import { create, IN, injectSuper, OUT, PEER, segmentsIn, train } from './offload-fixture.js'

/** Packets in a train or super-packet. */
const MANY = 60
/** Packets that one breath may take of a direction at most, once it knows what comes. */
const SHARE = 256

const read = (host: TestHost) => ({
  egress: host.counters.gaugeValue(READ + EGRESS),
  ingress: host.counters.gaugeValue(READ + INGRESS),
})

/** Packets that a breath reads. */
function breathe(host: TestHost): { egress: number; ingress: number } {
  const before = read(host)
  host.engine.breath()
  const after = read(host)
  return { egress: after.egress - before.egress, ingress: after.ingress - before.ingress }
}

function injectTrains(host: TestHost, count: number): void {
  const packets = segmentsIn(MANY, 100)
  for (let i = 0; i < count; i++) host.outside.inject(train(packets), PEER, packets[0]!.length)
}

t.test('trains at the socket do not starve the device', async (t) => {
  const host = create()
  injectTrains(host, 500)
  const single = flow.createPacket({ ...OUT, payload: new Uint8Array(36) })
  for (let i = 0; i < 2000; i++) host.inside.inject(single)
  breathe(host)
  for (let n = 0; n < 20; n++) {
    const { egress, ingress } = breathe(host)
    t.equal(egress, 64)
    t.ok(ingress > SHARE / 4 && ingress <= SHARE, `${ingress} beside them`)
  }
})

t.test('super-packets from the device do not starve the socket', async (t) => {
  const host = create()
  const spec = { ...OUT, payload: new Uint8Array(MANY * 100) }
  for (let i = 0; i < 500; i++) injectSuper(host, spec, 100)
  const single = flow.createPacket({ ...IN, payload: new Uint8Array(36) })
  for (let i = 0; i < 2000; i++) host.outside.inject(single, PEER)
  breathe(host)
  for (let n = 0; n < 20; n++) {
    const { egress, ingress } = breathe(host)
    t.equal(ingress, 64)
    t.ok(egress > SHARE / 4 && egress <= SHARE, `${egress} beside them`)
  }
})

t.test('single packets after trains fill whole batches again', async (t) => {
  const host = create()
  injectTrains(host, 100)
  const single = flow.createPacket({ ...IN, payload: new Uint8Array(36) })
  while (host.outside.pending > 0) host.engine.breath()
  for (let i = 0; i < 500; i++) host.outside.inject(single, PEER)
  breathe(host)
  breathe(host)
  t.equal(breathe(host).ingress, 64)
})

t.test('a breath looks only where it is told to, and says whether it has taken all', async (t) => {
  const host = create()
  const single = flow.createPacket({ ...OUT, payload: new Uint8Array(36) })
  for (let i = 0; i < 65; i++) host.inside.inject(single)
  injectTrains(host, 1)
  t.equal(host.engine.breath(false, false), 0)
  t.ok(host.engine.hasTakenAll)
  t.equal(host.engine.breath(false, true), 1, 'the train')
  t.ok(host.engine.hasTakenAll)
  t.equal(host.engine.breath(true, true), 64)
  t.notOk(host.engine.hasTakenAll, 'the batch was full')
  t.equal(host.engine.breath(true, false), 1)
  t.ok(host.engine.hasTakenAll)
})

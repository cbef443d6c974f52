/**
 * What the path reads and writes in headers: shape and checksum judged, one TTL less, an encapsulation
 * pushed. Beside each what one would write first: a Buffer's accessors, checksums computed anew.
 */
import { flannelUdp } from '../../dataplane/encap/flannel-udp.js'
import { createArena } from '../../dataplane/packet/arena.js'
import { update } from '../../dataplane/wire/checksum.js'
import * as ethernet from '../../dataplane/wire/ethernet.js'
import * as ipv4 from '../../dataplane/wire/ipv4.js'
import * as vxlan from '../../dataplane/wire/vxlan.js'
import { rfcSum } from '../lib/rfc-sum.js'
import { runSuite } from '../lib/suite.js'

/** Where the headers of a batch are: as far apart as the slots of plain devices. */
const FIRST = 64
const STEP = 1600
const SIZE = 64
const END = FIRST + SIZE * STEP

const { bytes, view } = createArena(new ArrayBuffer(END))
const buffer = Buffer.from(bytes.buffer)
for (let at = FIRST; at < END; at += STEP) {
  ipv4.write(view, at, 64, 0, at, ipv4.DONT_FRAGMENT, 63, ipv4.PROTO_UDP, 0x0a050107, 0x0a050209)
}

await runSuite('header-check', [
  {
    name: 'shape and checksum',
    size: SIZE,
    prepare: () => () => {
      let right = 0
      for (let at = FIRST; at < END; at += STEP) {
        if (ipv4.check(view, at, 64) === 0 && ipv4.isChecksumRight(view, at)) right++
      }
      return right
    },
  },
  {
    name: 'the same with a Buffer',
    size: SIZE,
    prepare: () => () => {
      let right = 0
      for (let at = FIRST; at < END; at += STEP) {
        const first = buffer.readUInt8(at)
        const len = (first & 15) * 4
        const total = buffer.readUInt16BE(at + 2)
        const isWhole = first >> 4 === 4 && len >= 20 && total >= len && total <= 64
        if (isWhole && rfcSum(buffer, at, len) === 0xffff) right++
      }
      return right
    },
  },
])

await runSuite('header-age', [
  {
    name: 'one TTL less, checksum patched',
    size: SIZE,
    prepare: () => () => {
      let ttls = 0
      for (let at = FIRST; at < END; at += STEP) ttls += ipv4.decrementTtl(view, at)
      return ttls
    },
  },
  {
    name: 'checksum updated by equation 3 of RFC 1624',
    size: SIZE,
    prepare: () => () => {
      let ttls = 0
      for (let at = FIRST; at < END; at += STEP) {
        const before = view.getUint16(at + 8)
        const after = (before - 0x100) & 0xffff
        view.setUint16(at + 8, after)
        ipv4.setChecksum(view, at, update(ipv4.checksum(view, at), before, after))
        ttls += after >>> 8
      }
      return ttls
    },
  },
  {
    name: 'checksum computed anew',
    size: SIZE,
    prepare: () => () => {
      let ttls = 0
      for (let at = FIRST; at < END; at += STEP) {
        const ttl = (ipv4.ttl(view, at) - 1) & 0xff
        ipv4.setTtl(view, at, ttl)
        ipv4.finishChecksum(view, at)
        ttls += ttl
      }
      return ttls
    },
  },
  {
    name: 'the same with a Buffer',
    size: SIZE,
    prepare: () => () => {
      let ttls = 0
      for (let at = FIRST; at < END; at += STEP) {
        const ttl = (buffer.readUInt8(at + 8) - 1) & 0xff
        buffer.writeUInt8(ttl, at + 8)
        buffer.writeUInt16BE(0, at + 10)
        buffer.writeUInt16BE(~rfcSum(buffer, at, 20) & 0xffff, at + 10)
        ttls += ttl
      }
      return ttls
    },
  },
])

/** Ethernet and VXLAN before the packet. */
const PUSHED = ethernet.HEADER_LEN + vxlan.HEADER_LEN

await runSuite('header-push', [
  {
    name: 'udp backend, one TTL less',
    size: SIZE,
    prepare: () => () => {
      let ttls = 0
      for (let at = FIRST; at < END; at += STEP) {
        ttls += ipv4.decrementTtl(view, at)
        flannelUdp.push(view, at, 1)
      }
      return ttls
    },
  },
  {
    name: 'VXLAN and Ethernet headers',
    size: SIZE,
    prepare: () => () => {
      let hops = 0
      for (let at = FIRST; at < END; at += STEP) {
        vxlan.write(view, at - PUSHED, 1)
        ethernet.write(view, at - ethernet.HEADER_LEN, 0x0200, ++hops, 0x0200, 7, 0x0800)
      }
      return hops
    },
  },
  {
    name: 'the same with a Buffer',
    size: SIZE,
    prepare: () => () => {
      let hops = 0
      for (let at = FIRST; at < END; at += STEP) {
        buffer.writeUInt32BE(0x0800_0000, at - PUSHED)
        buffer.writeUInt32BE(1 << 8, at - PUSHED + 4)
        buffer.writeUInt16BE(0x0200, at - 14)
        buffer.writeUInt32BE(++hops, at - 12)
        buffer.writeUInt16BE(0x0200, at - 8)
        buffer.writeUInt32BE(7, at - 6)
        buffer.writeUInt16BE(0x0800, at - 2)
      }
      return hops
    },
  },
])

/**
 * Which encapsulation an engine uses, as plain data that can be posted to its thread.
 */
import type { HopTable } from '../fib/nexthop.js'
import type { Mac } from '../mac.js'
import type { Encap } from './encap.js'
import { flannelUdp } from './flannel-udp.js'
import { createIpip } from './ipip.js'
import { createVxlan } from './vxlan.js'

export type EncapChoice =
  | { readonly kind: 'udp' }
  | { readonly kind: 'ipip' }
  | {
      readonly kind: 'vxlan'
      readonly vni: number
      /** MAC address of the own tunnel endpoint. */
      readonly mac: Mac
    }

/** The encapsulation itself; `hops` are those of the engine's table. */
export function createEncap(choice: EncapChoice, hops: HopTable): Encap {
  if (choice.kind === 'udp') return flannelUdp
  if (choice.kind === 'ipip') return createIpip(hops)
  return createVxlan({ vni: choice.vni, mac: choice.mac, hops })
}

/**
 * `alloc`: a lease and nothing else; somebody else carries the packets.
 */
import type { ChosenInterface } from '../host/interface.js'
import type { Backend } from './backend.js'
import { PLAIN, publicAddresses } from './reach.js'

export function createAlloc(external: ChosenInterface): Backend {
  const attrs = { ...publicAddresses(external), backendType: '' }
  return { ...PLAIN, mtu: external.mtu, attrs }
}

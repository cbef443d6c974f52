/**
 * One key and its value, as every store keeps them, turned into a subnet and attributes.
 *
 * A record that is no lease is an answer here and no error: stores skip it and say why.
 */
import { isHeddleError } from '../errors.js'
import { parseLeaseAttrs } from '../lease-json.js'
import type { LeaseAttrs, LeaseSubnet } from '../lease.js'
import { parseSubnetKey } from '../subnet-key.js'

export interface LeaseRecord {
  readonly subnet: LeaseSubnet
  readonly attrs: LeaseAttrs
}

/**
 * @param name   last part of the key, such as `10.5.1.0-24`
 * @param value  the JSON text under it
 * @returns      the record, or in words why it is none
 */
export function decodeRecord(name: string, value: string): LeaseRecord | string {
  const subnet = name.includes('/') ? null : parseSubnetKey(name)
  if (subnet === null) return 'the name is no subnet'
  try {
    return { subnet, attrs: parseLeaseAttrs(value) }
  } catch (error) {
    if (isHeddleError(error, 'HEDDLE_STORE_FORMAT')) return error.message
    throw error
  }
}

/**
 * The JSON value under a lease's key, byte for byte as flannel 0.28 writes it.
 *
 * Order: PublicIP, PublicIPv6, BackendType, BackendData, BackendV6Data; no spaces. PublicIP and
 * PublicIPv6 are always there (null when a host has no IPv6), the others only when set. Readers
 * also take what older daemons wrote: no PublicIPv6, no VNI in BackendData, other letter case.
 */
import { HeddleError } from './errors.js'
import { fieldsOf, quoteValue } from './json-object.js'
import type { LeaseAttrs } from './lease.js'
import { formatAddr6, parseAddr4, parseAddr6 } from './prefix.js'

/** Characters that Go's encoding/json escapes inside strings and JSON.stringify does not. */
const GO_ESCAPES = /[<>&\u2028\u2029]/g

/**
 * Attributes from a lease's value.
 * @throws HeddleError HEDDLE_STORE_FORMAT, naming the field and the value
 */
export function parseLeaseAttrs(text: string): LeaseAttrs {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new HeddleError('HEDDLE_STORE_FORMAT', 'lease value is not JSON', { cause })
  }
  const fields = fieldsOf(value)
  if (fields === null) fail(`lease value is not a JSON object: ${quoteValue(value)}`)
  return {
    publicIP: publicIP(fields.get('publicip')),
    publicIPv6: publicIPv6(fields.get('publicipv6')),
    backendType: backendType(fields.get('backendtype')),
    ...(fields.has('backenddata') ? { backendData: fields.get('backenddata') } : {}),
    ...(fields.has('backendv6data') ? { backendV6Data: fields.get('backendv6data') } : {}),
  }
}

function publicIP(value: unknown): string {
  if (value === undefined) return '0.0.0.0'
  if (typeof value === 'string' && parseAddr4(value) !== null) return value
  fail(`lease field PublicIP is not an IPv4 address: ${quoteValue(value)}`)
}

function publicIPv6(value: unknown): string | null {
  if (value === undefined || value === null) return null
  const addr = typeof value === 'string' ? parseAddr6(value) : null
  if (addr !== null) return formatAddr6(addr)
  fail(`lease field PublicIPv6 is neither an IPv6 address nor null: ${quoteValue(value)}`)
}

function backendType(value: unknown): string {
  if (value === undefined || value === null) return ''
  if (typeof value === 'string') return value
  fail(`lease field BackendType is not a string: ${quoteValue(value)}`)
}

function fail(message: string): never {
  throw new HeddleError('HEDDLE_STORE_FORMAT', message)
}

/** The lease value to write; backend data keep the order in which their fields were set. */
export function formatLeaseAttrs(attrs: LeaseAttrs): string {
  return toGoJson({
    PublicIP: attrs.publicIP,
    PublicIPv6: attrs.publicIPv6,
    BackendType: attrs.backendType === '' ? undefined : attrs.backendType,
    BackendData: attrs.backendData,
    BackendV6Data: attrs.backendV6Data,
  })
}

/** JSON as Go's encoding/json writes it. */
export function toGoJson(value: unknown): string {
  return JSON.stringify(value).replace(
    GO_ESCAPES,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

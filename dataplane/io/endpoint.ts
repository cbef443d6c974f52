/**
 * The far end of a datagram: address family, address bits and UDP port.
 *
 * A port is told where to send by a *name*, the kernel's socket address (its layout: fib/nexthop.ts).
 * Linux ports pass names on untouched; devices in TypeScript take them apart here.
 */
import { constants, endianness } from 'node:os'
import { formatAddress4 } from '../address.js'
import { NAME_SIZE, writeName } from '../fib/nexthop.js'
import * as ipv6 from '../wire/ipv6.js'

const FAMILY_AT = 0
const PORT_AT = 2
const ADDRESS4_AT = 4
const ADDRESS6_AT = 8
const LENGTH_AT = 28

// sys/socket.h on Linux, all architectures.
const AF_INET = 2
const AF_INET6 = 10
// netinet/in.h: sizeof(struct sockaddr_in) and sizeof(struct sockaddr_in6).
const SOCKADDR_IN_LEN = 16
const SOCKADDR_IN6_LEN = 28

const isLittle = endianness() === 'LE'

/** Positive errno values that devices in TypeScript answer with, from the system's own table. */
export const { EAGAIN, EDESTADDRREQ, EINVAL, EIO, EMSGSIZE, ENOBUFS } = constants.errno

export interface Endpoint {
  readonly family: 4 | 6
  /** Address bits, int32 each, host order: one word for IPv4, four for IPv6, most significant first. */
  readonly address: readonly number[]
  /** UDP port, host order. */
  readonly port: number
}

/** An IPv4 endpoint. @param address  address bits, host order (int32 or uint32) */
export function endpoint4(address: number, port: number): Endpoint {
  return { family: 4, address: [address | 0], port }
}

/** An IPv6 endpoint. @param address  16 bytes as on the wire */
export function endpoint6(address: Uint8Array, port: number): Endpoint {
  const view = new DataView(address.buffer, address.byteOffset, 16)
  return { family: 6, address: [0, 4, 8, 12].map((at) => view.getInt32(at)), port }
}

/**
 * Takes a name apart.
 * @param names  the table of names
 * @param at     byte offset of the name
 * @returns      the endpoint, or null when no name of a known family and length is there
 */
export function decodeName(names: Uint8Array, at: number): Endpoint | null {
  if (at < 0 || at + NAME_SIZE > names.length) return null
  const view = new DataView(names.buffer, names.byteOffset + at, NAME_SIZE)
  const family = view.getUint16(FAMILY_AT, isLittle)
  const length = view.getInt32(LENGTH_AT, isLittle)
  const port = view.getUint16(PORT_AT)
  if (family === AF_INET && length === SOCKADDR_IN_LEN) {
    return endpoint4(view.getInt32(ADDRESS4_AT), port)
  }
  if (family === AF_INET6 && length === SOCKADDR_IN6_LEN) {
    return endpoint6(names.subarray(at + ADDRESS6_AT, at + ADDRESS6_AT + 16), port)
  }
  return null
}

/** Writes an endpoint as a name at byte `at` of the table; fills all `NAME_SIZE` bytes. */
export function encodeName(endpoint: Endpoint, names: Uint8Array, at: number): void {
  const [a = 0, b = 0, c = 0, d = 0] = endpoint.address
  writeName(names, at, endpoint.family, a, b, c, d, endpoint.port)
}

/** Whether two endpoints are the same address and port. */
export function isSameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return (
    a.family === b.family &&
    a.port === b.port &&
    a.address.every((word, i) => word === b.address[i])
  )
}

/** The 16 bytes of an IPv6 endpoint's address, as on the wire. */
export function addressBytes6(endpoint: Endpoint): Uint8Array {
  const view = new DataView(new ArrayBuffer(16))
  endpoint.address.forEach((word, i) => {
    view.setInt32(i * 4, word)
  })
  return new Uint8Array(view.buffer)
}

/** Text of an endpoint's address: `192.0.2.2`, `2001:db8::2`. */
export function describeAddress(endpoint: Endpoint): string {
  if (endpoint.family === 4) return formatAddress4(endpoint.address[0] ?? 0)
  return ipv6.describeAddress(new DataView(addressBytes6(endpoint).buffer), 0)
}

/** Text of an endpoint: `192.0.2.2:8285`, `[2001:db8::2]:8285`; of one without ports `192.0.2.2`. */
export function describeEndpoint(endpoint: Endpoint): string {
  const address = describeAddress(endpoint)
  if (endpoint.port === 0) return address
  return `${endpoint.family === 4 ? address : `[${address}]`}:${String(endpoint.port)}`
}

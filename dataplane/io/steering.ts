/**
 * Which of several engines a packet belongs to: decided by the kernel, by programs made here.
 *
 * A flow stays on one engine from its TUN queue to its peer's TUN queue, so that no two threads can
 * overtake each other with its packets:
 *
 *     TUN queue k     by a hash of the flow that never changes while it lives
 *     socket k        sends from the flannel port (k = 0) or a port of its own with k in its low bits
 *     peer's socket   by that source port, so that both ends of a flow use the same number
 *
 * The kernel's own steering would move a flow to the queue that last wrote to it, while packets of
 * it may still wait in the old one. Ports count for TCP only: a UDP flow may have datagrams that are
 * fragmented, whose later fragments have no ports, between ones that are not. (Network cards hash
 * UDP by its addresses alone for the same reason: `ethtool -n DEV rx-flow-hash udp4`.)
 */
import {
  assemble,
  constant,
  copy,
  exit,
  jump,
  jumpIfEqual,
  jumpUnlessEqual,
  load,
  loadAt,
  register,
  type Instruction,
  type Label,
} from './bpf.js'

/** Engines of a daemon at most: as many as the low bits of a source port can tell apart. */
export const MAX_QUEUES = 16
const QUEUE_MASK = MAX_QUEUES - 1

/** Source ports are taken from here on: the dynamic range of RFC 6335 §6. */
const FIRST_PORT = 49152
/** Blocks of MAX_QUEUES ports in that range. */
export const PORT_BLOCKS = (65536 - FIRST_PORT) / MAX_QUEUES

/** The source port of an engine in one of the blocks: its number is in the low bits. */
export function sourcePort(queue: number, block: number): number {
  return FIRST_PORT + MAX_QUEUES * block + queue
}

const TCP = 6
/** Offset that stands for the start of the network header (linux/filter.h, SKF_NET_OFF). */
const NETWORK_HEADER = -0x100000

/** xors a word of the packet into the hash. */
function mix(at: number): (Instruction | Label)[] {
  return [load('word', at), register('xor', HASH, 0)]
}

const CONTEXT = 6
const HASH = 7
const PORTS_AT = 8

/**
 * For a TUN: a number by the flow, the same for both of its directions. Addresses by RFC 791 and
 * RFC 8200, ports by RFC 9293; ports only where no fragment and no extension header is in the way.
 */
export function flowSteering(): Uint8Array {
  const words = (from: number, to: number): (Instruction | Label)[] => {
    const all: (Instruction | Label)[] = []
    for (let at = from; at < to; at += 4) all.push(...mix(at))
    return all
  }
  return assemble([
    copy(CONTEXT, 1),
    constant('mov', HASH, 0),
    load('byte', 0),
    register('mov', PORTS_AT, 0),
    constant('shr', 0, 4),
    jumpIfEqual(0, 6, 'ipv6'),
    jumpUnlessEqual(0, 4, 'end'),
    ...words(12, 20),
    load('byte', 9),
    jumpUnlessEqual(0, TCP, 'end'),
    load('half', 6),
    constant('and', 0, 0x3fff),
    jumpUnlessEqual(0, 0, 'end'),
    constant('and', PORTS_AT, 15),
    constant('shl', PORTS_AT, 2),
    jump('ports'),

    { label: 'ipv6' },
    ...words(8, 40),
    load('byte', 6),
    jumpUnlessEqual(0, TCP, 'end'),
    constant('mov', PORTS_AT, 40),

    { label: 'ports' },
    loadAt('word', PORTS_AT, 0),
    register('xor', HASH, 0),

    // Folds the ports onto each other, so that direction does not matter, and spreads the bits.
    { label: 'end' },
    register('mov', 0, HASH),
    constant('shr', 0, 16),
    register('xor', 0, HASH),
    constant('and', 0, 0xffff),
    constant('mul', 0, 0x9e3779b1 | 0),
    constant('shr', 0, 16),
    exit,
  ])
}

/**
 * For the sockets that share the flannel port: which of them gets a datagram, by the engine that sent it.
 * @param port    the flannel port, from which flanneld and every first engine send
 * @param queues  sockets
 */
export function sourceSteering(port: number, queues: number): Uint8Array {
  return assemble([
    copy(CONTEXT, 1),
    load('byte', NETWORK_HEADER),
    register('mov', PORTS_AT, 0),
    constant('and', PORTS_AT, 15),
    constant('shl', PORTS_AT, 2),
    constant('shr', 0, 4),
    jumpUnlessEqual(0, 6, 'port'),
    constant('mov', PORTS_AT, 40),
    { label: 'port' },
    loadAt('half', PORTS_AT, NETWORK_HEADER),
    jumpUnlessEqual(0, port, 'other'),
    constant('mov', 0, 0),
    exit,
    { label: 'other' },
    constant('and', 0, QUEUE_MASK),
    constant('mod', 0, queues),
    exit,
  ])
}

/** For a socket that only sends: nothing that arrives there is kept. */
export function refuseAll(): Uint8Array {
  return assemble([constant('mov', 0, 0), exit])
}

/**
 * Transfers between two namespaces, with the tool in transfer.ts at both ends.
 */
import { fileURLToPath } from 'node:url'
import { HeddleError } from '../errors.js'
import type { Netns } from './netns.js'
import type { ManagedProcess, RunResult } from './process.js'
import type { TcpResult, TcpSendResult } from './transfer-tcp.js'
import type { UdpReceiveResult, UdpSendResult } from './transfer-udp.js'

const TOOL = fileURLToPath(new URL('transfer.js', import.meta.url))

export interface TcpTransfer {
  readonly sent: TcpSendResult
  readonly received: TcpResult
  /** Whether the receiver's hash is the sender's. */
  readonly intact: boolean
}

export interface UdpTransfer {
  readonly sent: UdpSendResult
  readonly received: UdpReceiveResult
}

function receiver(to: Netns, mode: string, address: string): Promise<ManagedProcess> {
  return to.spawn(process.execPath, [TOOL, mode, address, '0'], { name: mode })
}

async function portOf(child: ManagedProcess): Promise<string> {
  return (await child.waitFor(/"listening":(\d+)/))[1] ?? ''
}

function parse(what: string, output: string, error: string): unknown {
  const line = output.trim().split('\n').at(-1) ?? ''
  if (!line.startsWith('{') || line.includes('"listening"')) {
    throw new HeddleError('HEDDLE_ABORTED', `${what} did not finish: ${error.trim()}`)
  }
  return JSON.parse(line)
}

async function send(from: Netns, args: readonly string[], timeoutMs: number): Promise<RunResult> {
  return from.run(process.execPath, [TOOL, ...args], { timeoutMs })
}

/**
 * One TCP connection that carries seeded data from one namespace to an address of another.
 * @throws HeddleError HEDDLE_ABORTED when either end fails or the time is up
 */
export async function tcpTransfer(
  from: Netns,
  to: Netns,
  address: string,
  options: {
    readonly bytes: number
    readonly seed?: number
    readonly timeoutMs?: number
    /** Address that the sender connects to, where that is translated; default `address`. */
    readonly through?: string
  },
): Promise<TcpTransfer> {
  const child = await receiver(to, 'tcp-receive', address)
  try {
    const args = ['tcp-send', options.through ?? address, await portOf(child)]
    const numbers = [String(options.bytes), String(options.seed ?? 1)]
    const end = await send(from, [...args, ...numbers], options.timeoutMs ?? 60_000)
    const sent = parse('the TCP sender', end.stdout, end.stderr) as TcpSendResult
    await child.exited
    const received = parse('the TCP receiver', child.stdout(), child.stderr()) as TcpResult
    const intact = sent.bytes === received.bytes && sent.sha256 === received.sha256
    return { sent, received, intact }
  } finally {
    await child.stop()
  }
}

/**
 * A train of numbered datagrams from one namespace to an address of another.
 * @throws HeddleError HEDDLE_ABORTED when either end fails or the time is up
 */
export async function udpTransfer(
  from: Netns,
  to: Netns,
  address: string,
  options: {
    readonly count: number
    /** Payload of each datagram, bytes. */
    readonly size: number
    readonly seed?: number
    readonly perSecond?: number
    readonly timeoutMs?: number
  },
): Promise<UdpTransfer> {
  const child = await receiver(to, 'udp-receive', address)
  try {
    const args = ['udp-send', address, await portOf(child)]
    const { count, size, seed = 1, perSecond = 0 } = options
    const numbers = [count, size, seed, perSecond].map(String)
    const end = await send(from, [...args, ...numbers], options.timeoutMs ?? 60_000)
    const sent = parse('the UDP sender', end.stdout, end.stderr) as UdpSendResult
    await child.exited
    const received = parse('the UDP receiver', child.stdout(), child.stderr()) as UdpReceiveResult
    return { sent, received }
  } finally {
    await child.stop()
  }
}

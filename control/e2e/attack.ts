/**
 * The attacker's side of the tests with hostile datagrams, and what shows on the attacked host from
 * outside its daemon: the kernel's own counts, memory and descriptors.
 */
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Host, Pod } from '../lab/host.js'
import type { ManagedProcess } from '../lab/process.js'
import type { FloodReport } from './flood.js'

export const PORT = 8285
const FLOOD = fileURLToPath(new URL('flood.js', import.meta.url))
const RELAY = fileURLToPath(new URL('udp-relay.js', import.meta.url))
/** Largest datagram that needs no fragments on the underlay. */
export const UNFRAGMENTED = 1472
export const LARGEST = 65507

/** A socket for single datagrams from a host to another's daemon. @param address  of the other host */
export async function relay(
  from: Host,
  to: Host,
  address = to.address,
): Promise<(bytes: Buffer) => Promise<void>> {
  const path = join(from.dir, 'relay.sock')
  const child = await from.spawn(process.execPath, [RELAY, path, address, String(PORT)])
  await child.waitFor(/listening/)
  const socket = connect(path)
  await once(socket, 'connect')
  socket.unref()
  return async (bytes) => {
    socket.write(`${bytes.toString('hex')}\n`)
    const [answer] = (await once(socket, 'data')) as [Buffer]
    if (answer.toString() !== '\n') throw new Error(answer.toString())
  }
}

/** A running flood against a host. */
export class Flood {
  readonly #child: ManagedProcess

  private constructor(child: ManagedProcess) {
    this.#child = child
  }

  static async start(
    from: Host,
    to: Host,
    pod: Pod,
    inner: string,
    largest: number,
    seconds: number,
  ) {
    const numbers = [PORT, seconds, largest, 1].map(String)
    const args = [FLOOD, to.address, ...numbers, pod.address, inner]
    const child = await from.spawn(process.execPath, args, { name: 'flood' })
    await child.waitFor(/"flooding":true/)
    return new Flood(child)
  }

  get running(): boolean {
    return this.#child.running
  }

  /** Waits for its end. */
  async report(): Promise<FloodReport> {
    await this.#child.exited
    return JSON.parse(this.#child.stdout().trim().split('\n').at(-1) ?? '') as FloodReport
  }
}

/** Datagrams that a host's socket had no room for (proc(5), /proc/net/udp, column drops). */
export async function socketDrops(host: Host): Promise<number> {
  const { stdout } = await host.run('cat', ['/proc/net/udp'])
  const port = `:${PORT.toString(16).toUpperCase()} `
  const line = stdout.split('\n').find((text) => text.includes(port)) ?? ''
  return Number(line.trim().split(/\s+/).at(-1))
}

/** Datagrams that the kernel handed to programs of a host (RFC 4113 udpInDatagrams). */
export async function datagramsRead(host: Host): Promise<number> {
  const { stdout } = await host.run('cat', ['/proc/net/snmp'])
  const [names = '', values = ''] = stdout.split('\n').filter((line) => line.startsWith('Udp:'))
  return Number(values.split(' ')[names.split(' ').indexOf('InDatagrams')])
}

/** Resident memory in MB and open descriptors of a process (proc(5)). */
export function footprint(pid: number): { memory: number; descriptors: number } {
  const kb = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return { memory: Number(kb) / 1024, descriptors: readdirSync(`/proc/${pid}/fd`).length }
}

/**
 * Load, and what is measured while a daemon is under it: senders and receivers of many datagrams,
 * answers of the health server, packets that the kernel lost where no daemon can see it.
 */
import { fileURLToPath } from 'node:url'
import type { Host } from '../lab/host.js'
import type { Netns } from '../lab/netns.js'
import type { ManagedProcess } from '../lab/process.js'
import type { HealthAnswer } from './health-poller.js'

const LOAD = fileURLToPath(new URL('../../dataplane/load-fixture.js', import.meta.url))
const POLLER = fileURLToPath(new URL('health-poller.js', import.meta.url))

interface SentReport {
  readonly sent: number
  readonly seconds: number
}

/** What a sender sends, and how. */
export interface SenderOptions {
  readonly to: string
  readonly port: number
  readonly datagram: Buffer
  /** Datagrams a send (UDP_SEGMENT); default single ones. */
  readonly run?: number
  /** A send every millisecond, rather than as many as the kernel takes. */
  readonly isPaced?: boolean
  /** How much it leaves the CPU to others (nice(1)), default 0. */
  readonly nice?: number
}

/** A program that sends datagrams. */
export class Sender {
  readonly #child: ManagedProcess

  private constructor(child: ManagedProcess) {
    this.#child = child
  }

  static async start(from: Netns, options: SenderOptions): Promise<Sender> {
    const { to, port, datagram, run = 1, isPaced = false, nice = 0 } = options
    const mode = isPaced ? 'pace' : 'send'
    const args = [LOAD, mode, to, String(port), String(run), datagram.toString('hex')]
    const command = ['-n', String(nice), process.execPath, ...args]
    const child = await from.spawn('nice', command, { name: 'load-send' })
    await child.waitFor(/"sending":true/)
    return new Sender(child)
  }

  get running(): boolean {
    return this.#child.running
  }

  /** Ends it. @returns datagrams that the kernel took from it */
  async stop(): Promise<SentReport> {
    await this.#child.stop()
    return JSON.parse(lines(this.#child).at(-1) ?? '') as SentReport
  }
}

/** A program that takes what comes to a port. */
export class Receiver {
  readonly #child: ManagedProcess

  private constructor(child: ManagedProcess) {
    this.#child = child
  }

  static async start(at: Netns, address: string, port: number): Promise<Receiver> {
    const args = [LOAD, 'take', address, String(port)]
    const child = await at.spawn(process.execPath, args, { name: 'load-take' })
    await child.waitFor(/"taking":true/)
    return new Receiver(child)
  }

  /** Ends it. @returns datagrams taken, and those that its own socket had no room for */
  async stop(): Promise<{ readonly taken: number; readonly overflow: number }> {
    await this.#child.stop()
    return JSON.parse(lines(this.#child).at(-1) ?? '') as { taken: number; overflow: number }
  }
}

/** Polls a host's health server until it is stopped. */
export class HealthPoller {
  readonly #child: ManagedProcess

  private constructor(child: ManagedProcess) {
    this.#child = child
  }

  static async start(on: Host, port: number): Promise<HealthPoller> {
    const url = `http://127.0.0.1:${port}/healthz`
    const child = await on.spawn(process.execPath, [POLLER, url], { name: 'health-poller' })
    await child.waitFor(/"status":200/)
    return new HealthPoller(child)
  }

  async stop(): Promise<HealthAnswer[]> {
    await this.#child.stop()
    const whole = lines(this.#child).filter((line) => line.endsWith('}'))
    return whole.map((line) => JSON.parse(line) as HealthAnswer)
  }
}

function lines(child: ManagedProcess): string[] {
  return child.stdout().trim().split('\n')
}

/** An interface in a namespace. */
export interface Link {
  readonly place: Netns
  readonly iface: string
}

/** Packets that arrived at interfaces and had no room in the kernel's backlog. */
export async function backlogDrops(links: readonly Link[]): Promise<number> {
  const counts = await Promise.all(
    links.map(async ({ place, iface }) => {
      const { stdout } = await place.run('ip', ['-s', '-json', 'link', 'show', 'dev', iface])
      const [link] = JSON.parse(stdout) as [{ stats64: { rx: { dropped: number } } }]
      return link.stats64.rx.dropped
    }),
  )
  return counts.reduce((sum, n) => sum + n, 0)
}

/** Packets that the queueing discipline of an interface dropped (tc(8)). */
export async function queueDrops({ place, iface }: Link): Promise<number> {
  const { stdout } = await place.run('tc', ['-s', '-json', 'qdisc', 'show', 'dev', iface])
  const all = JSON.parse(stdout) as { drops: number }[]
  return all.reduce((sum, { drops }) => sum + drops, 0)
}

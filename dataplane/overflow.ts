/**
 * What the kernel lost before an engine could read it: datagrams at a full socket, packets at the
 * full queue of the TUN device. No engine sees them; the kernel counts them.
 *
 * The main thread reads the kernel's counts when somebody asks, so they are exact at that moment and
 * cost the path nothing. (SO_RXQ_OVFL would bring the same count of a socket with every datagram, and
 * tell of a loss only once another datagram was received.)
 */
import { readFileSync } from 'node:fs'
import { SOCKET_OVERFLOW, TUN_OVERFLOW, type Counters } from './counters.js'
import { native } from './native/native.js'

/** A socket's count is 32 bits wide; it is read at least this often, so that no turn is missed. */
const PERIOD_MS = 60_000

/** The kernel's counts of some devices. */
export interface Drops {
  /** Of each socket, modulo 2³². */
  readonly sockets: readonly number[]
  readonly tun: number
}

export class OverflowMeter {
  private readonly device: string
  private readonly sockets: readonly { readonly fd: number }[]
  private readonly counters: readonly Counters[]
  /** Last count of each socket. */
  private readonly socketDrops: Uint32Array
  private tunDrops: number
  private readonly timer: NodeJS.Timeout

  /**
   * Begins to count.
   * @param device    name of the TUN device, in the network namespace of this process
   * @param sockets   of the engines, in their order
   * @param counters  of the engines, in the same order; the device's losses go to the first
   * @param since     counts of before, when somebody else counted them last; default those of now
   */
  constructor(
    device: string,
    sockets: readonly { readonly fd: number }[],
    counters: readonly Counters[],
    since?: Drops,
  ) {
    this.device = device
    this.sockets = sockets
    this.counters = counters
    this.socketDrops = Uint32Array.from(
      since?.sockets ?? sockets.map(({ fd }) => native.receiveDrops(fd)),
    )
    this.tunDrops = since?.tun ?? readTransmitDrops(device) ?? 0
    this.timer = setInterval(() => {
      this.sample()
    }, PERIOD_MS)
    this.timer.unref()
  }

  /** Brings the gauges up to date. Not after `stop()`. */
  sample(): void {
    this.sockets.forEach(({ fd }, engine) => {
      const before = this.socketDrops[engine] ?? 0
      const now = native.receiveDrops(fd)
      this.counters[engine]?.gauge(SOCKET_OVERFLOW, (now - before) >>> 0)
      this.socketDrops[engine] = now
    })
    const drops = readTransmitDrops(this.device) ?? this.tunDrops
    this.counters[0]?.gauge(TUN_OVERFLOW, drops - this.tunDrops)
    this.tunDrops = drops
  }

  /** The counts as of the last sample. */
  get drops(): Drops {
    return { sockets: [...this.socketDrops], tun: this.tunDrops }
  }

  /** Ends the counting; to be called before the sockets are closed. */
  stop(): void {
    clearInterval(this.timer)
  }
}

/**
 * Packets for a device of this process's network namespace that the kernel dropped; null = not to be
 * had now. (The files of /sys/class/net belong to the namespace that mounted them, perhaps another.)
 */
function readTransmitDrops(device: string): number | null {
  let text: string
  try {
    text = readFileSync('/proc/net/dev', 'utf8')
  } catch {
    // No descriptor left, or no memory: the next reading tells.
    return null
  }
  return parseTransmitDrops(text, device)
}

/** Column of /proc/net/dev, behind the device's name, that has the drops of the transmit side. */
const TRANSMIT_DROPS = 11

/**
 * Takes a device's drops on the transmit side from the text of /proc/net/dev: a line for each device,
 * eight columns about receiving and eight about transmitting, `bytes packets errs drop …`.
 * Source: net/core/net-procfs.c of Linux, dev_seq_printf_stats; proc(5)
 * @returns null when the text has no such device
 */
export function parseTransmitDrops(text: string, device: string): number | null {
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':')
    if (line.slice(0, colon).trim() !== device) continue
    const columns = line.slice(colon + 1).trim()
    return Number(columns.split(/\s+/)[TRANSMIT_DROPS])
  }
  return null
}

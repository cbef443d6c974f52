/**
 * Echoes: what `ip monitor` tells of changes that we made ourselves, and that call for no look.
 */
import type { Change } from './difference.js'

/** An echo comes within milliseconds; on a busy machine it may take its time. */
const PATIENCE_MS = 3000

export class Echoes {
  /** Until when each one is awaited, the oldest first. */
  private readonly awaited = new Map<string, number>()

  /** Those that are remembered. */
  get size(): number {
    return this.awaited.size
  }

  /** These changes are about to be made. @param now  milliseconds that never go back */
  await(changes: readonly Change[], now: number): void {
    for (const [echo, until] of this.awaited) {
      if (until > now) break
      this.awaited.delete(echo)
    }
    for (const echo of changes.flatMap(echoesOf)) {
      this.awaited.delete(echo)
      this.awaited.set(echo, now + PATIENCE_MS)
    }
  }

  /** Whether a line of `ip -o monitor` is one. */
  has(line: string, now: number): boolean {
    const [, deleted, what = '', device = ''] = /^(Deleted )?(\S+) .*?\bdev (\S+)/.exec(line) ?? []
    const until = this.awaited.get(echo(deleted !== undefined, what, device))
    return until !== undefined && until > now
  }
}

/** Each one begins with what it is about: an address, a prefix, the host of a forwarding entry. */
function echoesOf(change: Change): string[] {
  switch (change.kind) {
    case 'neighbour-set':
      return [echo(false, change.neighbour.address, change.neighbour.device)]
    case 'neighbour-remove': {
      // It fails first.
      const { address, device } = change.neighbour
      return [echo(false, address, device), echo(true, address, device)]
    }
    case 'forwarding-set':
      return [echo(false, change.entry.host, change.entry.device)]
    case 'forwarding-remove':
      return [echo(true, change.entry.host, change.entry.device)]
    case 'route-add':
    case 'route-replace':
      return [echo(false, bare(change.route.destination), change.route.device)]
    case 'route-remove':
      return [echo(true, bare(change.route.destination), change.route.device)]
    default:
      return []
  }
}

function echo(isDeleted: boolean, what: string, device: string): string {
  return `${isDeleted ? '-' : '+'}${what} ${device}`
}

/** A host route is told without its length. */
function bare(destination: string): string {
  return destination.replace(/(?<=\..*)\/32$|(?<=:.*)\/128$/, '')
}

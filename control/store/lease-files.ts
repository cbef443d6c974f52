/**
 * Leases as files: what lies where, how one is read, written and removed.
 *
 *   <directory>/config                     the network configuration
 *   <directory>/subnets/10.5.1.0-24        a lease, the JSON that etcd would hold
 *   <directory>/.store/leases/<name>~<id>  when the lease of that name runs out
 *   <directory>/.store/{lock,drafts}       for directory-lock.ts, and files being written
 *
 * A lease's id is also its version: inode, modification time and a digest of the value. So a file
 * that anybody else writes or copies has no lifetime, just as a key that an operator puts into etcd
 * has no lease. The lifetime is written before the value and removed after it; a value without one
 * was therefore either meant so or is being removed, which a second look at the value tells.
 */
import { createHash, randomUUID } from 'node:crypto'
import { constants, type BigIntStats } from 'node:fs'
import { link, mkdir, open, readdir, readFile, rename, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { formatLeaseAttrs } from '../lease-json.js'
import type { Lease, LeaseAttrs, LeaseSubnet } from '../lease.js'
import { formatSubnetKey } from '../subnet-key.js'
import type { HeldLock } from './directory-lock.js'
import { hasCode, orMissing } from './file-errors.js'
import { inGroups } from './in-groups.js'
import { decodeRecord } from './record.js'

/** Largest value that is looked at, bytes; real ones have a few hundred. */
const MAX_VALUE_BYTES = 64 * 1024

/** What a name under `subnets/` holds. `stamp` changes with every change of the file. */
export type LeaseFile =
  | { readonly kind: 'lease'; readonly stamp: string; readonly lease: Lease }
  | { readonly kind: 'fault'; readonly stamp: string; readonly why: string }
  | { readonly kind: 'absent' }

export interface LeaseFiles {
  readonly configPath: string
  readonly subnetsPath: string
  readonly lockPath: string
  readonly draftsPath: string
  /** Creates the directories. */
  prepare(): Promise<void>
  /** Names under `subnets/` in ascending order, dot files left out. */
  names(): Promise<string[]>
  /** What tells a changed file from an unchanged one without reading it; null = absent. */
  stamp(name: string): Promise<string | null>
  /** A lease past its expiry is returned like any other. */
  read(name: string): Promise<LeaseFile>
  /** Unix time in ms at which a lifetime ends, null when it is unknown or over and removed. */
  expiry(name: string, id: string): Promise<number | null>
  /** Under the lock: writes a value, over what is there, or only where nothing is. */
  write(
    subnet: LeaseSubnet,
    attrs: LeaseAttrs,
    expiresAt: number | null,
    mode: 'create' | 'replace',
    held: HeldLock,
  ): Promise<Lease | null>
  /** Under the lock: removes a value; its lifetime stays on record until it is over. */
  remove(name: string, held: HeldLock): Promise<void>
  /** Under the lock: removes what has expired, values first, and drafts that a crash left. */
  sweep(held: HeldLock): Promise<void>
}

export function createLeaseFiles(directory: string): LeaseFiles {
  const subnets = join(directory, 'subnets')
  const lifetimes = join(directory, '.store', 'leases')
  const drafts = join(directory, '.store', 'drafts')
  const lock = join(directory, '.store', 'lock')
  const lifetimePath = (name: string, id: string) => join(lifetimes, `${name}~${id}`)

  /** Writes a file nobody sees yet, down to the disk. */
  async function draft(text: string): Promise<{ path: string; stats: BigIntStats }> {
    const path = join(drafts, `value-${randomUUID()}`)
    const file = await open(path, 'wx', 0o644)
    try {
      await file.writeFile(text)
      await file.sync()
      return { path, stats: await file.stat({ bigint: true }) }
    } finally {
      await file.close()
    }
  }

  async function expiry(name: string, id: string): Promise<number | null> {
    const text = await orMissing(readFile(lifetimePath(name, id), 'utf8'))
    const expiresAt = text === null ? NaN : Date.parse(text.trim())
    return Number.isNaN(expiresAt) ? null : expiresAt
  }

  /** @returns the file's content, or in words why it has none */
  async function content(
    name: string,
  ): Promise<{ stats: BigIntStats; text: string | null } | null> {
    // Not blocking: a FIFO that somebody put here must not hold up the daemon.
    const file = await orMissing(
      open(join(subnets, name), constants.O_RDONLY | constants.O_NONBLOCK),
    )
    if (file === null) return null
    try {
      const stats = await file.stat({ bigint: true })
      const readable = stats.isFile() && stats.size <= MAX_VALUE_BYTES
      return { stats, text: readable ? await file.readFile('utf8') : null }
    } finally {
      await file.close()
    }
  }

  async function stampOf(name: string): Promise<string | null> {
    const stats = await orMissing(stat(join(subnets, name), { bigint: true }))
    return stats === null ? null : stampText(stats)
  }

  async function read(name: string): Promise<LeaseFile> {
    for (;;) {
      const found = await content(name).catch((error: unknown) => refusal(error))
      if (found === null) return { kind: 'absent' }
      if (typeof found === 'string') {
        return { kind: 'fault', stamp: (await stampOf(name)) ?? '', why: found }
      }
      const stamp = stampText(found.stats)
      if (found.text === null) {
        return { kind: 'fault', stamp, why: 'it is no regular file of at most 64 KiB' }
      }
      const record = decodeRecord(name, found.text)
      if (typeof record === 'string') return { kind: 'fault', stamp, why: record }
      const id = identity(found.stats, found.text)
      const expiresAt = await expiry(name, id)
      if (expiresAt === null && (await stampOf(name)) !== stamp) continue
      const storeLease = expiresAt === null ? '' : id
      const { subnet, attrs } = record
      return { kind: 'lease', stamp, lease: { subnet, attrs, expiresAt, version: id, storeLease } }
    }
  }

  async function remove(name: string, held: HeldLock): Promise<void> {
    await held.confirm()
    await orMissing(unlink(join(subnets, name)))
  }

  return {
    configPath: join(directory, 'config'),
    subnetsPath: subnets,
    lockPath: lock,
    draftsPath: drafts,
    read,
    expiry,
    remove,
    stamp: stampOf,
    async prepare() {
      for (const path of [subnets, lifetimes, drafts, lock]) await mkdir(path, { recursive: true })
    },
    async names() {
      const names = await readdir(subnets)
      return names.filter((name) => !name.startsWith('.')).sort()
    },
    async write(subnet, attrs, expiresAt, mode, held) {
      const name = formatSubnetKey(subnet)
      const text = formatLeaseAttrs(attrs)
      const value = await draft(text)
      const version = identity(value.stats, text)
      try {
        if (expiresAt !== null) {
          const lifetime = await draft(`${new Date(expiresAt).toISOString()}\n`)
          await rename(lifetime.path, lifetimePath(name, version))
        }
        await held.confirm()
        if (mode === 'replace') await rename(value.path, join(subnets, name))
        else await link(value.path, join(subnets, name))
      } catch (error) {
        if (mode === 'create' && hasCode(error, 'EEXIST')) return null
        throw error
      } finally {
        await orMissing(unlink(value.path))
      }
      return { subnet, attrs, expiresAt, version, storeLease: expiresAt === null ? '' : version }
    },
    async sweep(held) {
      const entries = await inGroups(await readdir(lifetimes), async (entry) => {
        const [name = '', id = ''] = entry.split('~')
        return { entry, name, id, expiresAt: await expiry(name, id) }
      })
      for (const { entry, name, id, expiresAt } of entries) {
        if (expiresAt === null || expiresAt > Date.now()) continue
        const file = await read(name)
        if (file.kind === 'lease' && file.lease.version === id) await remove(name, held)
        await orMissing(unlink(join(lifetimes, entry)))
      }
      for (const name of await readdir(drafts)) {
        const path = join(drafts, name)
        const stats = await orMissing(stat(path))
        if (stats !== null && Date.now() - stats.mtimeMs > 60_000) await orMissing(unlink(path))
      }
    },
  }
}

/** A file that cannot be opened is a fault of that file, not of the store. */
function refusal(error: unknown): string {
  if (error instanceof Error && 'syscall' in error) return error.message
  throw error
}

function stampText(stats: BigIntStats): string {
  return [stats.ino, stats.ctimeNs, stats.mtimeNs, stats.size].join('.')
}

function identity(stats: BigIntStats, text: string): string {
  const digest = createHash('sha256').update(text).digest('hex').slice(0, 16)
  return [stats.ino.toString(36), stats.mtimeNs.toString(36), digest].join('-')
}

/**
 * Mutual exclusion between the daemons that share a directory, safe against kill -9.
 *
 * Holders are numbered. Whoever finds the highest number given back (`7.free`) or its holder dead
 * takes the next one by link(2), which only one process can; so a dead holder's file is never
 * removed while it counts, and two that find it at the same time cannot both win. A file of a lower
 * number than the highest means nothing: latecomers see that after taking it, and let go.
 *
 * A holder in another pid namespace cannot be checked; it counts as dead after a time far above the
 * milliseconds for which the lock is ever held, and therefore checks itself before it commits.
 */
import { randomUUID } from 'node:crypto'
import { link, readdir, readFile, rename, stat, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { HeddleError } from '../errors.js'
import { sleep, throwIfAborted } from './abort.js'
import { hasCode } from './file-errors.js'
import { isRunning, ownIdentity, type ProcessIdentity } from './process-identity.js'

export interface DirectoryLockOptions {
  /** Directory on the same file system for files being written; its owner clears it of old ones. */
  readonly drafts: string
  /** Bound of the wait for the lock, ms. */
  readonly timeoutMs: number
  /** Age in ms at which a holder that cannot be checked counts as dead. Default 10000. */
  readonly staleMs?: number
}

/** Handed to the work under the lock. */
export interface HeldLock {
  /** To be called right before the step that others see. @throws HeddleError when the lock was taken away */
  confirm(): Promise<void>
}

export interface DirectoryLock {
  /**
   * Runs work while no other process, and no other caller, does.
   * The signal ends the wait only: work that has begun is finished.
   * @throws HeddleError HEDDLE_STORE (retryable) when the lock is not free in time
   */
  run<T>(signal: AbortSignal, work: (held: HeldLock) => Promise<T>): Promise<T>
}

const ENTRY = /^(\d{1,15})(\.free)?$/

/** @param directory  an existing directory for the lock's files alone */
export function createDirectoryLock(
  directory: string,
  options: DirectoryLockOptions,
): DirectoryLock {
  const own = ownIdentity()
  const staleMs = options.staleMs ?? 10_000

  async function run<T>(signal: AbortSignal, work: (held: HeldLock) => Promise<T>): Promise<T> {
    const number = await acquire(signal)
    const confirm = async () => {
      if (await isOvertaken(number)) throw taken()
    }
    try {
      return await work({ confirm })
    } finally {
      const held = join(directory, String(number))
      await rename(held, `${held}.free`).catch(() => undefined)
    }
  }

  async function acquire(signal: AbortSignal): Promise<number> {
    const until = Date.now() + options.timeoutMs
    for (;;) {
      throwIfAborted(signal)
      const { highest, holder } = await top()
      if (holder === null && (await take(highest + 1))) return highest + 1
      if (Date.now() > until) {
        const who = holder === null ? 'others' : `process ${holder}`
        throw new HeddleError('HEDDLE_STORE', `the lock ${directory} is held by ${who}`, {
          retryable: true,
        })
      }
      await sleep(1 + Math.random() * 4, signal)
    }
  }

  /** Highest number, and who holds it: null = nobody that lives. */
  async function top(): Promise<{ highest: number; holder: string | null }> {
    const entries = (await readdir(directory)).map((name) => ENTRY.exec(name))
    const highest = Math.max(0, ...entries.map((match) => Number(match?.[1] ?? 0)))
    const isHeld = entries.some((match) => match?.[0] === String(highest))
    return { highest, holder: isHeld ? await livingHolder(String(highest)) : null }
  }

  async function livingHolder(name: string): Promise<string | null> {
    const file = join(directory, name)
    try {
      const holder = JSON.parse(await readFile(file, 'utf8')) as ProcessIdentity
      const running = isRunning(holder, own)
      if (running !== null) return running ? String(holder.pid) : null
    } catch (error) {
      // Given back meanwhile: the next look shows it. Unreadable: judged by its age.
      if (hasCode(error, 'ENOENT')) return 'others'
    }
    const age = await stat(file).then(
      ({ ctimeMs }) => Date.now() - ctimeMs,
      () => 0,
    )
    return age > staleMs ? null : 'others'
  }

  /** @returns whether the number is ours now */
  async function take(number: number): Promise<boolean> {
    const draft = join(options.drafts, `lock-${randomUUID()}`)
    const target = join(directory, String(number))
    await writeFile(draft, JSON.stringify(own), { flag: 'wx' })
    try {
      await link(draft, target)
    } catch (error) {
      if (hasCode(error, 'EEXIST')) return false
      throw error
    } finally {
      await unlink(draft)
    }
    if (await isOvertaken(number)) {
      await unlink(target).catch(() => undefined)
      return false
    }
    await removeBelow(number)
    return true
  }

  /** Whether any other entry bears this number or a higher one. */
  async function isOvertaken(number: number): Promise<boolean> {
    const names = await readdir(directory)
    return (
      !names.includes(String(number)) ||
      names.some((name) => name !== String(number) && Number(ENTRY.exec(name)?.[1] ?? 0) >= number)
    )
  }

  async function removeBelow(number: number): Promise<void> {
    for (const name of await readdir(directory)) {
      const other = ENTRY.exec(name)?.[1]
      const isOld = other !== undefined && Number(other) < number
      if (isOld) await unlink(join(directory, name)).catch(() => undefined)
    }
  }

  function taken(): HeddleError {
    return new HeddleError('HEDDLE_STORE', `the lock ${directory} was taken away`, {
      retryable: true,
    })
  }

  return { run }
}

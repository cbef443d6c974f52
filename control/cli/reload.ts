/**
 * `heddle reload`: has a running daemon start anew, without losing a packet, as the program that is installed now and
 * with the network configuration of now; returns when it is ready again.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { askForReload, readStatus } from '../control-socket.js'
import { isHeddleError } from '../errors.js'
import { DEFAULT_SUBNET_FILE } from '../options.js'
import type { Status } from '../status.js'
import type { CommandIo } from './heddle.js'
import { parseInstanceFlags } from './instance-flags.js'

const USAGE = `usage: heddle reload [--subnet-file FILE]

Has heddled start anew: as the program that is installed now, with the network configuration of now and the
command line of before. Its devices and sockets stay open, so no packet is lost.

  --subnet-file FILE  the instance, by its subnet file (default ${DEFAULT_SUBNET_FILE})
`

const READY_LIMIT_MS = 30_000
const LOOK_MS = 50

/** Runs the command. @returns the exit code: 0, 1 = the daemon refused, or was not ready in time, 2 = wrong arguments */
export async function reload(argv: readonly string[], io: CommandIo): Promise<number> {
  const flags = parseInstanceFlags('reload', argv, USAGE, false, io)
  if (typeof flags === 'number') return flags
  try {
    const file = flags.subnetFile
    const before = await readStatus(file)
    const fault = (await askForReload(file)) ?? (await awaitReady(file, before))
    if (fault === null) {
      io.stdout.write(`heddled, pid ${String(before.pid)}, is ready again\n`)
      return 0
    }
    io.stderr.write(`heddle reload: ${fault}\n`)
    return 1
  } catch (error) {
    if (!isHeddleError(error)) throw error
    io.stderr.write(`heddle reload: ${error.message}\n`)
    return 1
  }
}

/** Waits until the next program in the process is ready. @returns why it is not, null = it is */
async function awaitReady(subnetFile: string, { pid, startedAt }: Status): Promise<string | null> {
  const end = Date.now() + READY_LIMIT_MS
  while (Date.now() < end) {
    const status = await readStatus(subnetFile).catch(() => null)
    if (status?.state === 'ready' && status.startedAt !== startedAt) return null
    if (!isThere(pid)) return `the daemon, pid ${String(pid)}, has ended; its log says why`
    await sleep(LOOK_MS)
  }
  return `not ready again within ${String(READY_LIMIT_MS / 1000)} s; its log says more`
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

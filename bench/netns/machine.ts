/**
 * What a reader must know of the machine a run was made on. No names.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { arch, cpus, release, totalmem } from 'node:os'
import { native } from '../../dataplane/native/native.js'
import type { Machine } from './result.js'

export function describeMachine(): Machine {
  const all = cpus()
  return {
    cpu: all[0]?.model.trim() ?? 'unknown',
    cores: all.length,
    memoryGb: Math.round(totalmem() / 2 ** 30),
    arch: arch(),
    kernel: release(),
    node: process.version,
  }
}

/** The commit checked out in a folder, `+` when files differ from it; null outside a repository. */
export function describeCommit(folder: string): string | null {
  try {
    const git = (...args: string[]): string =>
      execFileSync('git', ['-C', folder, ...args], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim()
    const commit = git('rev-parse', '--short=10', 'HEAD')
    return git('status', '--porcelain', '--untracked-files=no') === '' ? commit : `${commit}+`
  } catch {
    return null
  }
}

/** Time of all cores since the start, in ticks, by /proc/stat. */
export interface CpuTime {
  readonly all: number
  /** What the hypervisor gave to others while there was work. */
  readonly stolen: number
  /** What was worked. */
  readonly busy: number
}

/** @returns the time of all cores so far (proc(5)) */
export function readCpuTime(): CpuTime {
  const [, ...fields] = (readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? '').split(/\s+/)
  const [user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, softirq = 0, stolen = 0] =
    fields.map(Number)
  const busy = user + nice + system + irq + softirq
  return { all: busy + idle + wait + stolen, stolen, busy }
}

const READS = 20_000
const SAMPLES = 5

/**
 * What it takes to enter the kernel for nothing: a read that finds nothing, nanoseconds, the best of five
 * samples. What user space costs beside the kernel depends on it.
 */
export function measureEmptyRead(): number {
  const fd = native.eventfd()
  const samples = Array.from({ length: SAMPLES }, () => {
    const start = process.hrtime.bigint()
    for (let i = 0; i < READS; i++) native.drain(fd)
    return Number(process.hrtime.bigint() - start) / READS
  })
  native.close(fd)
  return Math.min(...samples)
}

/** TCP congestion control that new connections get. */
export function readCongestionControl(): string {
  return readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'utf8').trim()
}

/**
 * What a reader must know of the machine a run was made on. No names.
 */
import { execFileSync } from 'node:child_process'
import { arch, cpus, release, totalmem } from 'node:os'
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

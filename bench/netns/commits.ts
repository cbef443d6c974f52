/**
 * Builds of other commits, each in a temporary worktree of its own, as contenders of one run.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { HeddleVariant } from './contenders/heddle.js'

/** A commit that is built. */
export interface Build {
  readonly commit: string
  readonly folder: string
  readonly variant: HeddleVariant
  remove(): void
}

function must(command: string, args: readonly string[], cwd: string): string {
  return execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

/**
 * Checks a commit out and builds it.
 * @param name  anything git can resolve
 * @param root  folder of this package
 * @throws      with git's, npm's or the compiler's output; nothing is left behind then
 */
export function buildCommit(name: string, root: string): Build {
  const commit = must('git', ['rev-parse', '--short=10', `${name}^{commit}`], root).trim()
  const folder = mkdtempSync(join(tmpdir(), `heddle-${commit}-`))
  const remove = (): void => {
    must('git', ['worktree', 'remove', '--force', folder], root)
  }
  try {
    must('git', ['worktree', 'add', '--detach', folder, commit], root)
  } catch (fault) {
    rmSync(folder, { recursive: true, force: true })
    throw fault
  }
  try {
    installPackages(root, folder)
    must(process.execPath, ['dataplane/native/build.mjs'], folder)
    must(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json'], folder)
  } catch (fault) {
    remove()
    throw fault
  }
  const variant = {
    name: `heddle@${name}`,
    flags: [],
    heddled: join(folder, 'dist/control/main.js'),
    version: commit,
  }
  return { commit, folder, variant, remove }
}

/** The packages of this clone where the lock file is the same, the commit's own otherwise. */
function installPackages(root: string, folder: string): void {
  const lockOf = (where: string): string => readFileSync(join(where, 'package-lock.json'), 'utf8')
  const ours = join(root, 'node_modules')
  if (existsSync(ours) && lockOf(root) === lockOf(folder)) {
    symlinkSync(ours, join(folder, 'node_modules'))
    return
  }
  must('npm', ['ci', '--ignore-scripts', '--include=dev', '--no-audit', '--no-fund'], folder)
}

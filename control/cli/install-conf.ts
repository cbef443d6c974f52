/**
 * `heddle install-conf`: copies a CNI configuration to where the kubelet reads it, whole or not at all, as flannel's
 * tool of that name.
 */
import { readFile, stat } from 'node:fs/promises'
import { replaceFile } from '../replace-file.js'
import type { CommandIo } from './heddle.js'

const USAGE = `usage: heddle install-conf SOURCE TARGET

Copies a file atomically, with its mode: an init container installs a CNI configuration so.
`

/** Runs the command. @returns the exit code: 0, or 1 = wrong arguments or a fault, as flannel's tool */
export async function installConf(argv: readonly string[], io: CommandIo): Promise<number> {
  const [source, target, ...more] = argv
  if (source === '--help' || source === '-h') {
    io.stdout.write(USAGE)
    return 0
  }
  if (source === undefined || target === undefined || more.length > 0) {
    io.stderr.write(`heddle install-conf: two arguments are needed\n${USAGE}`)
    return 1
  }
  try {
    const { mode } = await stat(source)
    await replaceFile(target, await readFile(source), mode & 0o777)
    return 0
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error
    io.stderr.write(`heddle install-conf: ${error.message}\n`)
    return 1
  }
}

/**
 * A network namespace of a test file's own: imported first, it starts the file again inside one, and here it ends.
 * Test support, used by no other code.
 */
import { spawnSync } from 'node:child_process'

if (process.env['HEDDLE_TEST_NETNS'] === undefined) {
  const args = ['--net', process.execPath, ...process.execArgv, ...process.argv.slice(1)]
  const env = { ...process.env, HEDDLE_TEST_NETNS: '1' }
  process.exit(spawnSync('unshare', args, { stdio: 'inherit', env }).status ?? 1)
}

/**
 * A command of iproute2.
 * @param line  arguments, with single blanks in between
 * @throws      what the program said, when it fails
 */
export function ip(line: string, program: 'ip' | 'bridge' = 'ip'): void {
  const { status, stderr } = spawnSync(program, line.split(' '), { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${program} ${line}: ${stderr}`)
}

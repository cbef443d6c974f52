/**
 * `heddle install-conf` (F71).
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const HEDDLE = fileURLToPath(new URL('heddle.js', import.meta.url))
const run = (...args: string[]) =>
  spawnSync(process.execPath, [HEDDLE, 'install-conf', ...args], { encoding: 'utf8' })

t.test('F71 a copy, whole, with the mode of its source', async (t) => {
  const dir = t.testdir({ conf: '{"name":"cbr0"}\n', 'net.d': { '10-old.conflist': 'old' } })
  const [source, target] = [join(dir, 'conf'), join(dir, 'net.d', '10-old.conflist')]
  chmodSync(source, 0o640)
  t.match(run(source, target), { status: 0, stderr: '' })
  t.equal(readFileSync(target, 'utf8'), '{"name":"cbr0"}\n')
  t.equal(statSync(target).mode & 0o777, 0o640)
  t.same(readdirSync(join(dir, 'net.d')), ['10-old.conflist'], 'and nothing beside it')
})

t.test('F71 anything else ends with 1 and leaves the target alone', async (t) => {
  const dir = t.testdir({ conf: 'new', target: 'old' })
  const [source, target] = [join(dir, 'conf'), join(dir, 'target')]
  t.match(run(), { status: 1, stderr: /two arguments/ })
  t.match(run(source), { status: 1, stderr: /usage:/ })
  t.match(run(source, target, 'x'), { status: 1, stderr: /usage:/ })
  t.match(run(join(dir, 'none'), target), { status: 1, stderr: /ENOENT/ })
  t.match(run(source, join(dir, 'none', 'target')), { status: 1, stderr: /ENOENT/ })
  t.match(run('--help'), { status: 0, stdout: /usage:/ })
  t.equal(readFileSync(target, 'utf8'), 'old')
})

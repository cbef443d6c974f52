/**
 * One daemon a subnet file: the lock, and who holds it when.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, statSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { lockInstance, lockKernel } from './instance.js'

const module = new URL('./instance.js', import.meta.url).href

async function folder(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'heddle-instance-'))
  t.teardown(() => rm(path, { recursive: true }))
  return path
}

t.test('one at a time', async (t) => {
  const file = join(await folder(t), 'subnet.env')
  const release = await lockInstance(file)
  await t.rejects(lockInstance(file), {
    code: 'HEDDLE_BUSY',
    message: new RegExp(`another heddled runs with --subnet-file=${file} .*\\.lock`),
  })
  const other = await lockInstance(join(dirname(file), 'other.env'))
  other()
  release()
  const again = await lockInstance(file)
  again()
})

t.test('the kernel drops the lock of a process that was killed', async (t) => {
  const file = join(await folder(t), 'subnet.env')
  const program = `
    const { lockInstance } = await import(${JSON.stringify(module)})
    await lockInstance(${JSON.stringify(file)})
    process.stdout.write('locked')
    setInterval(() => undefined, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program])
  await once(child.stdout, 'data')
  await t.rejects(lockInstance(file), { code: 'HEDDLE_BUSY' })
  child.kill('SIGKILL')
  await once(child, 'exit')
  const release = await lockInstance(file)
  release()
})

t.test('the folder is made, with mode 0755 under any umask', async (t) => {
  const root = await folder(t)
  const before = process.umask(0o077)
  t.teardown(() => process.umask(before))
  const release = await lockInstance(join(root, 'a', 'b', 'subnet.env'))
  release()
  for (const name of ['a', join('a', 'b')]) {
    t.equal((statSync(join(root, name)).mode & 0o777).toString(8), '755', name)
  }
})

t.test('where nothing can be made', async (t) => {
  const root = await folder(t)
  writeFileSync(join(root, 'file'), '')
  for (const path of [join(root, 'file', 'subnet.env'), '/proc/nothing/subnet.env']) {
    await t.rejects(lockInstance(path), {
      code: 'HEDDLE_PERMISSION',
      message: /cannot lock .*subnet\.env\.lock: .*; give --subnet-file a path/,
    })
    t.notOk(existsSync(path))
  }
})

t.test('a device of the kernel, by its name', async (t) => {
  const run = join(await folder(t), 'heddle')
  const release = await lockKernel('flannel.1', run)
  await t.rejects(lockKernel('flannel.1', run), {
    code: 'HEDDLE_BUSY',
    message: /flannel\.1 is kept by another heddled of this host/,
  })
  const others = [await lockKernel('flannel.2', run), await lockKernel('host-gw 10.5.0.0/16', run)]
  for (const other of others) other()
  release()
  const again = await lockKernel('flannel.1', run)
  again()
})

t.test('no lock where none can be made', async (t) => {
  const release = await lockKernel('flannel.1', '/proc/heddle')
  release()
  t.pass('and no error')
})

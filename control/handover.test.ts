/**
 * What one program leaves open for the next: what the variable may say, and what becomes of descriptors.
 * The handing over itself is in e2e/anew.test.ts.
 */
import { closeSync, fstatSync, openSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import t from 'tap'
import { setInherited } from '../dataplane/index.js'
import { takeHanded } from './handover.js'

const isOpen = (fd: number): boolean => {
  try {
    fstatSync(fd)
    return true
  } catch {
    return false
  }
}

/** A note about one tunnel of a descriptor. */
function note(fd: number, change: object = {}) {
  const devices = {
    tuns: [{ fd, name: 'flannel0', vnetHdr: true }],
    sockets: [{ fd, family: 4, address: '', port: 0, receiveBuffer: 0, sendBuffer: 0 }],
  }
  const value = { format: 1, pid: 7, fds: [fd], tunnels: [{ key: 'k', devices }], ...change }
  return { HEDDLE_HANDOVER: JSON.stringify(value) as string | undefined }
}

/** Whether a program that is started has a descriptor. */
const hasChild = (fd: number): boolean => {
  const script = `try { require('fs').fstatSync(${fd}); console.log('yes') } catch { console.log('no') }`
  // Node itself opens descriptors from the first free one on: this one is far above.
  return execFileSync('/proc/self/exe', ['-e', script], { encoding: 'utf8' }).trim() === 'yes'
}

/** A descriptor above those that Node opens for itself. */
function openHigh(): number {
  const low: number[] = []
  let fd = openSync('/dev/null', 'r')
  while (fd < 60) {
    low.push(fd)
    fd = openSync('/dev/null', 'r')
  }
  for (const each of low) closeSync(each)
  return fd
}

t.test('a note for this process', async (t) => {
  const fd = openHigh()
  t.notOk(hasChild(fd), 'as Node opens it')
  setInherited(fd, true)
  t.ok(hasChild(fd))
  const env = note(fd)
  const [handed, ...others] = takeHanded(env, 7)
  t.same(others, [])
  t.equal(handed?.key, 'k')
  t.equal(handed?.devices.tuns[0].fd, fd)
  t.same(env, {}, 'nobody else reads it')
  t.notOk(hasChild(fd), 'no program that is started gets it')
  closeSync(fd)
})

t.test('of another format: closed', async (t) => {
  const fd = openHigh()
  t.same(takeHanded(note(fd, { format: 2 }), 7), [])
  t.notOk(isOpen(fd))
})

t.test('of descriptors that are not all open: those that are, are closed', async (t) => {
  const fd = openHigh()
  t.same(takeHanded(note(fd, { fds: [9999, fd] }), 7), [])
  t.notOk(isOpen(fd))
})

t.test('for nobody, for another process, or nonsense', async (t) => {
  const fd = openHigh()
  for (const [name, env] of [
    ['none', {}],
    ['another process', note(fd, { pid: 8 })],
    ['no list of descriptors', note(fd, { fds: 7 })],
    ['no list of tunnels', note(fd, { tunnels: null })],
    ['no JSON', { HEDDLE_HANDOVER: '{' }],
    ['null', { HEDDLE_HANDOVER: 'null' }],
  ] as const) {
    t.same(takeHanded(env, 7), [], name)
    t.same(env, {}, `${name}: the variable goes`)
    t.ok(isOpen(fd), `${name}: not touched`)
  }
  closeSync(fd)
})

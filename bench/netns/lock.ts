/**
 * A lock on a file, so that measurements on a machine that several people use wait for one another.
 * `flock(1)` holds it, since Node cannot; when this process dies, flock ends and the lock is free.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'

/** Waits for the lock. @returns what gives it back */
export async function takeLock(file: string): Promise<() => Promise<void>> {
  const holder = spawn('flock', [file, 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let said = ''
  holder.stderr.on('data', (text: Buffer) => (said += text.toString()))
  const ended = once(holder, 'close')
  const held = await Promise.race([
    once(holder.stdout, 'data').then(() => true),
    ended.then(() => false),
  ])
  if (!held) throw new Error(`flock cannot lock ${file}: ${said.trim()}`)
  return async () => {
    holder.stdin.end()
    await ended
  }
}

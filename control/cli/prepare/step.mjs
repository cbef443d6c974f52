/**
 * One step of the preparation: a line with its duration, and the program's output only if it fails.
 */
import { spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The folder of package.json. */
export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../../..')

/** Something the person at the terminal has to know or do; the message is complete. */
export class StepError extends Error {}

// A root shell made by `su` may lack the folders where ip, tcpdump and the like are.
process.env.PATH = [process.env.PATH, '/usr/sbin', '/sbin'].filter(Boolean).join(delimiter)

/** Full path of a command, null when there is none. */
export function which(command) {
  for (const folder of process.env.PATH.split(delimiter)) {
    const file = join(folder, command)
    try {
      accessSync(file, constants.X_OK)
      return file
    } catch {
      // Not in this folder.
    }
  }
  return null
}

/** Runs a program quietly. @returns exit code and everything it printed, in order */
export function runQuietly(command, args, env = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: ROOT,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8')
      stream.on('data', (text) => (output += text))
    }
    child.once('error', (error) => resolve({ code: 127, output: error.message }))
    child.once('close', (code, signal) =>
      resolve({ code: code ?? 128, output: signal ? `${output}\nended by ${signal}` : output }),
    )
  })
}

/**
 * Prints what is being done, does it, prints how long it took.
 * @throws StepError with the output of the program that failed
 */
export async function step(what, work) {
  const start = performance.now()
  process.stderr.write(`heddle: ${what} … `)
  const result = await work()
  const seconds = ((performance.now() - start) / 1000).toFixed(1)
  if (result.code === 0) {
    process.stderr.write(`${seconds} s\n`)
    return
  }
  process.stderr.write(`failed after ${seconds} s\n`)
  throw new StepError(`${what} failed:\n${result.output.trim()}`)
}

/**
 * The control socket of an instance, a unix socket beside its subnet file, mode 0600: `GET /status` reads the
 * daemon's status, `POST /reload` has it start anew. The path names the instance, so several daemons do not collide.
 */
import { chmodSync, rmSync } from 'node:fs'
import { createServer, request, type Server, type ServerResponse } from 'node:http'
import { HeddleError } from './errors.js'
import type { Reload } from './orders.js'
import type { Status } from './status.js'

/** Reading takes milliseconds; before a reload the program is tried. */
const STATUS_LIMIT_MS = 5000
const RELOAD_LIMIT_MS = 40_000

/** Path of the control socket of the instance that a subnet file names. */
export function socketPath(subnetFile: string): string {
  return `${subnetFile}.sock`
}

/**
 * Serves the socket. The caller holds the instance's lock, so a socket file that is already there is a left-over
 * and is removed.
 * @param read    the status of now; null = not known yet (answered with 503)
 * @param reload  what speaks against a reload is answered with 409
 */
export async function serveControl(
  subnetFile: string,
  read: () => Status | null,
  reload: Reload,
): Promise<Server> {
  const path = socketPath(subnetFile)
  rmSync(path, { force: true })
  const server = createServer((req, res) => {
    req.resume()
    if (req.method === 'GET' && req.url === '/status') answerStatus(res, read())
    else if (req.method === 'POST' && req.url === '/reload') void answerReload(res, reload)
    else res.writeHead(404).end()
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      reject(
        new HeddleError(
          'HEDDLE_DEVICE',
          `cannot open the control socket ${path}: ${error.message}`,
          { cause: error },
        ),
      )
    })
    server.listen(path, resolve)
  })
  chmodSync(path, 0o600)
  return server
}

function answerStatus(res: ServerResponse, status: Status | null): void {
  res.writeHead(status === null ? 503 : 200, { 'content-type': 'application/json' })
  res.end(JSON.stringify(status))
}

async function answerReload(res: ServerResponse, reload: Reload): Promise<void> {
  const why = await reload.whyNot()
  res.writeHead(why === null ? 202 : 409, { 'content-type': 'text/plain; charset=utf-8' })
  res.end(why ?? '', () => {
    if (why === null) reload.begin()
  })
}

/**
 * Reads the status of a running daemon.
 * @throws HEDDLE_DEVICE when nobody answers on the socket
 */
export async function readStatus(subnetFile: string): Promise<Status> {
  const { code, text } = await ask(subnetFile, 'GET', '/status', STATUS_LIMIT_MS)
  if (code === 503) throw noAnswer(subnetFile, 'it is still starting')
  if (code !== 200) throw noAnswer(subnetFile, `status ${String(code)}`)
  try {
    return JSON.parse(text) as Status
  } catch (error) {
    throw noAnswer(subnetFile, 'the answer is not JSON', error)
  }
}

/**
 * Has a running daemon start anew.
 * @returns null when it is about to, else what speaks against it
 * @throws  HEDDLE_DEVICE when nobody answers on the socket
 */
export async function askForReload(subnetFile: string): Promise<string | null> {
  const { code, text } = await ask(subnetFile, 'POST', '/reload', RELOAD_LIMIT_MS)
  if (code === 202) return null
  if (code === 409) return text
  throw noAnswer(subnetFile, `status ${String(code)}`)
}

function noAnswer(subnetFile: string, why: string, cause?: unknown): HeddleError {
  return new HeddleError(
    'HEDDLE_DEVICE',
    `no daemon answers on ${socketPath(subnetFile)}: ${why}; is heddled running with --subnet-file=${subnetFile}?`,
    { cause },
  )
}

function ask(
  subnetFile: string,
  method: 'GET' | 'POST',
  path: string,
  timeout: number,
): Promise<{ code: number | undefined; text: string }> {
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause: unknown): void => {
      reject(noAnswer(subnetFile, why, cause))
    }
    // A connection of its own: one kept from an earlier call may lead to a daemon that is gone.
    const options = { socketPath: socketPath(subnetFile), method, path, timeout, agent: false }
    const req = request(options, (res) => {
      let text = ''
      res.setEncoding('utf8')
      res.on('data', (chunk: string) => (text += chunk))
      res.on('error', (error) => {
        fail(error.message, error)
      })
      res.on('end', () => {
        resolve({ code: res.statusCode, text })
      })
    })
    req.on('timeout', () =>
      req.destroy(new Error(`it did not answer within ${String(timeout / 1000)} s`)),
    )
    req.on('error', (error: NodeJS.ErrnoException) => {
      fail(error.code === 'ENOENT' ? 'the socket does not exist' : error.message, error)
    })
    req.end()
  })
}

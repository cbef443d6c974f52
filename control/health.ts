/**
 * The health server: `/healthz` answers as long as the process lives, `/readyz` once the daemon
 * has written its subnet file. Paths, codes and bodies are flannel's; any method will do.
 */
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { HeddleError, type ErrorCode } from './errors.js'

/** How long a stop waits for requests under way, ms. */
const STOP_LIMIT_MS = 3000

/** How long a client may take to send its request, ms. */
const REQUEST_LIMIT_MS = 5000

export interface HealthServer {
  /** The port it listens on. */
  readonly port: number
  /** Stops: at once when idle, else within three seconds. */
  close(): Promise<void>
}

/**
 * Starts the server.
 * @param at       address and port; port 0 = any free one
 * @param isReady  asked at every request for /readyz
 * @throws HeddleError HEDDLE_BUSY, HEDDLE_PERMISSION or, for an address not of this host,
 *         HEDDLE_USAGE
 */
export async function startHealthServer(
  at: { readonly ip: string; readonly port: number },
  isReady: () => boolean,
): Promise<HealthServer> {
  const server = createServer((request, response) => {
    request.resume()
    const path = (request.url ?? '').split('?')[0] ?? ''
    if (path === '/healthz') answer(response, 200, 'flanneld is running')
    else if (path !== '/readyz') answer(response, 404, '404 page not found\n')
    else if (isReady()) answer(response, 200, 'flanneld is ready')
    else answer(response, 503, 'flanneld is not ready yet')
  })
  server.headersTimeout = REQUEST_LIMIT_MS
  server.requestTimeout = REQUEST_LIMIT_MS
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      reject(listenError(error, at))
    })
    server.listen(at.port, at.ip, resolve)
  })
  // Failures to accept later on (no descriptors left) must not end the daemon.
  server.on('error', () => undefined)
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        const limit = setTimeout(() => {
          server.closeAllConnections()
        }, STOP_LIMIT_MS)
        server.close(() => {
          clearTimeout(limit)
          resolve()
        })
        server.closeIdleConnections()
      }),
  }
}

function answer(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, {
    'content-type': 'text/plain; charset=utf-8',
    'content-length': body.length,
  })
  response.end(body)
}

function listenError(
  cause: NodeJS.ErrnoException,
  { ip, port }: { readonly ip: string; readonly port: number },
): HeddleError {
  const where = `health server on ${ip} port ${port}`
  const error = (code: ErrorCode, why: string) =>
    new HeddleError(code, `${where}: ${why}`, { cause })
  if (cause.code === 'EADDRINUSE') {
    return error('HEDDLE_BUSY', 'the port is taken; set --healthz-port')
  }
  if (cause.code === 'EACCES') return error('HEDDLE_PERMISSION', 'the port needs root')
  return error('HEDDLE_USAGE', `${cause.message}; set --healthz-ip`)
}

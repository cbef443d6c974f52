/**
 * Asks a daemon's health server again and again, as a program for the inside of its namespace:
 *
 *     health-poller.js URL
 *
 * Each time over a new connection, ten times a second. Prints one line of JSON for each answer:
 * {"status":…,"ms":…}, status 0 = no answer. Runs until it is killed.
 */
import { get } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

export interface HealthAnswer {
  readonly status: number
  /** Time from the request to the end of the answer. */
  readonly ms: number
}

const PERIOD_MS = 100
const LIMIT_MS = 5000

const url = process.argv[2] ?? ''

function ask(): Promise<number> {
  return new Promise((resolve) => {
    const request = get(url, { agent: false, timeout: LIMIT_MS }, (response) => {
      response.resume()
      response.on('end', () => {
        resolve(response.statusCode ?? 0)
      })
    })
    request.on('timeout', () => request.destroy())
    request.on('error', () => {
      resolve(0)
    })
  })
}

for (;;) {
  const start = performance.now()
  const status = await ask()
  const answer: HealthAnswer = { status, ms: performance.now() - start }
  process.stdout.write(`${JSON.stringify(answer)}\n`)
  await sleep(PERIOD_MS)
}

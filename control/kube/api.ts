/**
 * Requests to the Kubernetes API: read an object, patch one, follow a watch. One connection each, every wait bounded.
 */
import { request as requestHttp, type IncomingMessage } from 'node:http'
import { request as requestHttps } from 'node:https'
import { describeError, HeddleError } from '../errors.js'
import { abortError, settle, throwIfAborted } from '../store/abort.js'
import type { Credentials, KubeAccess } from './access.js'
import { splitLines } from './lines.js'
import { readItems } from './list-items.js'
import { objectOf, textOf } from './json.js'

export interface KubeTimes {
  /** How long an answer may take to begin, and may pause, ms. */
  readonly answerMs: number
  /** How long a watch may be silent: the connection may be a dead one, ms. */
  readonly silenceMs: number
}

/** A list of thousands of nodes takes a while to begin; bookmarks come every minute. */
export const KUBE_TIMES: KubeTimes = { answerMs: 30_000, silenceMs: 90_000 }

/** Largest part of a refusal that is read, bytes, and that is told, characters. */
const MAX_REFUSAL = 64 << 10
const MAX_SAID = 300
/** Longest pause that a server may ask for, ms. */
const MAX_PAUSE_MS = 60_000
/** Largest object, and largest event of a watch, bytes; etcd keeps objects below 1.5 MB. */
const MAX_OBJECT = 16 << 20

/** How long credentials may take, ms; a plugin has half of it. */
const CREDENTIALS_MS = 60_000

const HTTP_OK = 200
const HTTP_UNAUTHORIZED = 401
const HTTP_FORBIDDEN = 403

/** The API server said no. */
export class KubeRefusal extends HeddleError {
  /** HTTP status, also of an event that ends a watch. */
  readonly status: number
  /** How long the server asks to be left alone, ms; 0 = it does not. */
  readonly pauseMs: number

  constructor(status: number, message: string, pauseMs = 0) {
    super('HEDDLE_STORE', message, { retryable: true })
    this.status = status
    this.pauseMs = pauseMs
  }
}

interface Call {
  readonly method: 'GET' | 'PATCH'
  /** With the query. */
  readonly path: string
  readonly body?: string
  readonly pauseMs: number
}

export class KubeApi {
  readonly #access: KubeAccess
  readonly #times: KubeTimes

  constructor(access: KubeAccess, times: KubeTimes = KUBE_TIMES) {
    this.#access = access
    this.#times = times
  }

  /** @throws HeddleError HEDDLE_STORE, retryable; {@link KubeRefusal} where the server answered */
  async get(path: string, signal: AbortSignal): Promise<unknown> {
    return this.#whole({ method: 'GET', path, pauseMs: this.#times.answerMs }, signal)
  }

  /**
   * The items of a list, one after the other.
   * @returns the list without them
   * @throws  as {@link get}
   */
  async *list(path: string, signal: AbortSignal): AsyncGenerator<unknown, unknown> {
    const answer = await this.#open({ method: 'GET', path, pauseMs: this.#times.answerMs }, signal)
    try {
      return yield* readItems(answer, MAX_OBJECT)
    } catch (error) {
      throw failure(error, path, signal)
    } finally {
      answer.destroy()
    }
  }

  /** Merges a patch into an object. @throws as {@link get} */
  async patch(path: string, patch: object, signal: AbortSignal): Promise<unknown> {
    const body = JSON.stringify(patch)
    return this.#whole({ method: 'PATCH', path, body, pauseMs: this.#times.answerMs }, signal)
  }

  /**
   * Follows a watch until the server ends it, or is silent for too long.
   * @param onOpen  told when the server has taken the watch
   * @throws        as {@link get}
   */
  async *watch(path: string, onOpen: () => void, signal: AbortSignal): AsyncGenerator {
    const answer = await this.#open({ method: 'GET', path, pauseMs: this.#times.silenceMs }, signal)
    onOpen()
    try {
      for await (const line of splitLines(answer, MAX_OBJECT)) yield parse(line, path)
    } catch (error) {
      if (error === SILENCE) return
      throw failure(error, path, signal)
    } finally {
      answer.destroy()
    }
  }

  async #whole(call: Call, signal: AbortSignal): Promise<unknown> {
    const answer = await this.#open(call, signal)
    try {
      const parts: Buffer[] = []
      let size = 0
      for await (const part of answer) {
        parts.push(part as Buffer)
        size += (part as Buffer).length
        if (size > MAX_OBJECT) throw new Error(`an object of more than ${String(MAX_OBJECT)} bytes`)
      }
      return parse(Buffer.concat(parts).toString('utf8'), call.path)
    } catch (error) {
      throw failure(error, call.path, signal)
    }
  }

  /** Sends a request, and waits for an answer that is none of a refusal. */
  async #open(call: Call, signal: AbortSignal): Promise<IncomingMessage> {
    let answer: IncomingMessage
    try {
      throwIfAborted(signal)
      answer = await this.#send(call, await this.#credentials(signal), signal)
    } catch (error) {
      throw failure(error, call.path, signal)
    }
    const { statusCode: status = 0 } = answer
    if (status === HTTP_OK) return answer
    if (status === HTTP_UNAUTHORIZED) this.#access.credentials.forget()
    throw refusal(answer, await beginningOf(answer), call)
  }

  /** Whoever gives them may take its time: a daemon that ends does not wait. */
  #credentials(signal: AbortSignal): Promise<Credentials> {
    const { credentials } = this.#access
    const late = (): Error => new Error('no credentials within a minute')
    return settle(credentials.get(), signal, CREDENTIALS_MS, late)
  }

  #send(call: Call, credentials: Credentials, signal: AbortSignal): Promise<IncomingMessage> {
    const { server, ca, isVerified, serverName } = this.#access
    const { authorization, cert, key } = credentials
    const { answerMs } = this.#times
    const url = new URL(server)
    const [path = '', query = ''] = call.path.split('?')
    url.pathname = server.pathname.replace(/\/$/, '') + path
    url.search = query
    const send = url.protocol === 'https:' ? requestHttps : requestHttp
    return new Promise((resolve, reject) => {
      const request = send(url, {
        method: call.method,
        agent: false,
        signal,
        headers: {
          accept: 'application/json',
          'user-agent': 'heddled',
          ...(call.body === undefined
            ? {}
            : { 'content-type': 'application/strategic-merge-patch+json' }),
          ...(authorization === null ? {} : { authorization }),
        },
        rejectUnauthorized: isVerified,
        ...(ca === null ? {} : { ca }),
        ...(cert === null || key === null ? {} : { cert, key }),
        ...(serverName === null ? {} : { servername: serverName }),
      })
      const limit = setTimeout(() => {
        request.destroy(new Error(`no answer within ${String(answerMs)} ms`))
      }, answerMs)
      request.on('error', (error) => {
        clearTimeout(limit)
        reject(error)
      })
      // A server that changes the protocol unasked closes without a word.
      request.on('close', () => {
        clearTimeout(limit)
        reject(new Error('the connection was closed'))
      })
      request.on('response', (answer) => {
        clearTimeout(limit)
        request.setTimeout(call.pauseMs, () => answer.destroy(SILENCE))
        resolve(answer)
      })
      request.end(call.body)
    })
  }
}

/** A connection on which nothing came for too long. */
const SILENCE = new Error('nothing came for too long')

async function beginningOf(answer: IncomingMessage): Promise<string> {
  const parts: Buffer[] = []
  let size = 0
  try {
    for await (const part of answer) {
      parts.push(part as Buffer)
      size += (part as Buffer).length
      if (size >= MAX_REFUSAL) break
    }
  } catch {
    // What came will do.
  }
  answer.destroy()
  return Buffer.concat(parts).toString('utf8')
}

/** What a refusal says: the message of a Status object, else the text itself, on one line. */
function refusal(answer: IncomingMessage, body: string, { method, path }: Call): KubeRefusal {
  const { statusCode: status = 0, headers } = answer
  let message: string
  try {
    message = textOf(objectOf(JSON.parse(body))?.['message'])
  } catch {
    message = body
  }
  const said = message.replace(/\s+/g, ' ').trim().slice(0, MAX_SAID)
  const seconds = Number(headers['retry-after'] ?? 0)
  const remedy =
    status === HTTP_FORBIDDEN
      ? '; the service account needs the ClusterRole of docs/KUBERNETES.md'
      : ''
  return new KubeRefusal(
    status,
    `Kubernetes API: ${method} ${bare(path)}: ${String(status)} ${said}${remedy}`,
    seconds > 0 ? Math.min(seconds * 1000, MAX_PAUSE_MS) : 0,
  )
}

function parse(text: string, path: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new HeddleError('HEDDLE_STORE', `Kubernetes API: ${bare(path)}: the answer is no JSON`, {
      cause,
      retryable: true,
    })
  }
}

function failure(error: unknown, path: string, signal: AbortSignal): Error {
  if (signal.aborted) return abortError(signal)
  if (error instanceof HeddleError && error.code === 'HEDDLE_STORE') return error
  return new HeddleError('HEDDLE_STORE', `Kubernetes API: ${bare(path)}: ${describeError(error)}`, {
    cause: error,
    retryable: true,
  })
}

/** A path without its query. */
function bare(path: string): string {
  return path.replace(/\?.*/, '')
}

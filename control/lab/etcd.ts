/**
 * A real etcd with a data folder of its own, in the lab's switch namespace, where every host reaches it.
 */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { HeddleError } from '../errors.js'
import type { Netns } from './netns.js'
import type { ManagedProcess, RunResult } from './process.js'

export class Etcd {
  /** Client URL as the hosts see it. */
  readonly endpoint: string
  readonly #place: Netns
  #server: ManagedProcess | null = null

  constructor(place: Netns, address: string) {
    this.#place = place
    this.endpoint = `http://${address}:2379`
  }

  /** Starts the server and waits until it answers. */
  async start(): Promise<void> {
    if (this.#server?.running === true) return
    this.#server = await this.#place.spawn('etcd', [
      '--name=lab',
      `--data-dir=${join(this.#place.dir, 'etcd')}`,
      `--listen-client-urls=${this.endpoint},http://127.0.0.1:2379`,
      `--advertise-client-urls=${this.endpoint}`,
      '--listen-peer-urls=http://127.0.0.1:2380',
      '--initial-advertise-peer-urls=http://127.0.0.1:2380',
      '--initial-cluster=lab=http://127.0.0.1:2380',
    ])
    const deadline = Date.now() + 20_000
    while ((await this.ctl('endpoint', 'health')).code !== 0) {
      if (!this.#server.running || Date.now() > deadline) {
        const said = this.#server.stderr().slice(-2000)
        throw new HeddleError('HEDDLE_STORE', `etcd does not come up:\n${said}`)
      }
      await sleep(50)
    }
  }

  /** Stops the server in order; the data stays. */
  async stop(): Promise<void> {
    await this.#server?.stop()
  }

  /** Kills the server as a crash would; the data stays. */
  async kill(): Promise<void> {
    this.#server?.kill('SIGKILL')
    await this.#server?.exited
  }

  async restart(): Promise<void> {
    await this.stop()
    await this.start()
  }

  /** Runs etcdctl (API v3) against the server. */
  ctl(...args: readonly string[]): Promise<RunResult> {
    return this.#place.run('etcdctl', ['--endpoints=http://127.0.0.1:2379', ...args])
  }

  /** Sets a key. @throws HeddleError HEDDLE_STORE */
  async put(key: string, value: string): Promise<void> {
    const result = await this.ctl('put', '--', key, value)
    if (result.code !== 0) throw new HeddleError('HEDDLE_STORE', result.stderr)
  }

  /** Values below a prefix by key. @throws HeddleError HEDDLE_STORE */
  async list(prefix: string): Promise<Map<string, string>> {
    const result = await this.ctl('get', prefix, '--prefix', '--write-out=fields')
    if (result.code !== 0) throw new HeddleError('HEDDLE_STORE', result.stderr)
    const keys = [...result.stdout.matchAll(/^"Key" : (".*")$/gm)].map((m) => unquote(m[1]))
    const values = [...result.stdout.matchAll(/^"Value" : (".*")$/gm)].map((m) => unquote(m[1]))
    return new Map(keys.map((key, i) => [key, values[i] ?? '']))
  }
}

/** etcdctl prints Go's quoted strings, which JSON can read as long as the text is printable. */
function unquote(quoted: string | undefined): string {
  return String(JSON.parse(quoted ?? '""'))
}

/**
 * A real etcd for tests: on loopback, on free ports, with a data folder of its own.
 *
 * It can be stopped, frozen and started again on the same data. Operators' steps are done with
 * etcdctl, so that a test does not check our client against itself.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ManagedProcess, must } from '../lab/process.js'

/** PEM files: the authority of both sides, and one certificate that both sides use. */
export interface EtcdTls {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

export class EtcdFixture {
  readonly endpoint: string
  readonly #folder: string
  readonly #peer: string
  readonly #tls: EtcdTls | null
  #server: ManagedProcess | null = null

  private constructor(folder: string, client: number, peer: number, tls: EtcdTls | null) {
    this.#folder = folder
    this.#tls = tls
    this.endpoint = `${tls === null ? 'http' : 'https'}://127.0.0.1:${client}`
    this.#peer = `http://127.0.0.1:${peer}`
  }

  /** Starts a server with an empty keyspace; with TLS it takes only clients that have a certificate. */
  static async start(tls: EtcdTls | null = null): Promise<EtcdFixture> {
    const folder = await mkdtemp(join(tmpdir(), 'heddle-etcd-'))
    const fixture = new EtcdFixture(folder, await freePort(), await freePort(), tls)
    await fixture.resume()
    return fixture
  }

  /** Starts the server again, on the data it had, and waits until it answers. */
  async resume(): Promise<void> {
    this.#server = await ManagedProcess.start(
      'etcd',
      [
        '--name=fixture',
        `--data-dir=${join(this.#folder, 'data')}`,
        `--listen-client-urls=${this.endpoint}`,
        `--advertise-client-urls=${this.endpoint}`,
        `--listen-peer-urls=${this.#peer}`,
        `--initial-advertise-peer-urls=${this.#peer}`,
        `--initial-cluster=fixture=${this.#peer}`,
        '--grpc-keepalive-min-time=10ms',
        '--heartbeat-interval=50',
        '--election-timeout=250',
        ...(this.#tls === null
          ? []
          : [
              '--client-cert-auth',
              `--trusted-ca-file=${this.#tls.ca}`,
              `--cert-file=${this.#tls.cert}`,
              `--key-file=${this.#tls.key}`,
            ]),
      ],
      { log: join(this.#folder, 'log') },
    )
    for (const until = Date.now() + 15_000; ;) {
      try {
        await this.ctl('endpoint', 'health')
        return
      } catch (error) {
        // With users set up, this refusal is the answer of a healthy server.
        if (String(error).includes('user name is empty')) return
        if (!this.#server.running || Date.now() > until) throw error
        await sleep(20)
      }
    }
  }

  /** Ends the server; its data stay. */
  async stop(): Promise<void> {
    await this.#server?.stop()
  }

  /** Ends the server as a crash would. */
  async kill(): Promise<void> {
    this.#server?.kill('SIGKILL')
    await this.#server?.exited
  }

  /** Connections stay open and nothing answers, until thaw(). */
  freeze(): void {
    this.#server?.kill('SIGSTOP')
  }

  thaw(): void {
    this.#server?.kill('SIGCONT')
  }

  /** Ends the server and removes its data. */
  async remove(): Promise<void> {
    this.thaw()
    await this.kill()
    await rm(this.#folder, { recursive: true })
  }

  /** Output of etcdctl. @throws when it fails */
  ctl(...args: string[]): Promise<string> {
    const common = [`--endpoints=${this.endpoint}`, '--command-timeout=2s']
    if (this.#tls !== null) {
      const { ca, cert, key } = this.#tls
      common.push(`--cacert=${ca}`, `--cert=${cert}`, `--key=${key}`)
    }
    return must('etcdctl', [...common, ...args])
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

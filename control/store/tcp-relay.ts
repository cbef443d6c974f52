/**
 * A TCP relay on loopback for tests, standing between a store and etcd: it can refuse, cut, fall
 * silent while connections stay open, and lose the answers to what it passes on.
 */
import { connect, createServer, type Server, type Socket } from 'node:net'

export type RelayMode = 'pass' | 'silent' | 'lose-answers'

export class TcpRelay {
  mode: RelayMode = 'pass'
  /** Called with every piece of what clients send, before it is passed on. */
  onRequest: (piece: Buffer) => void = () => undefined
  readonly #target: number
  readonly #sockets = new Set<Socket>()
  #server: Server | null = null
  #port = 0

  private constructor(target: number) {
    this.#target = target
  }

  static async start(targetUrl: string): Promise<TcpRelay> {
    const relay = new TcpRelay(Number(new URL(targetUrl).port))
    await relay.restore()
    return relay
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  /** Number of connections taken so far. */
  accepted = 0

  /** Closes what is open and refuses what comes, until restore(). */
  async cut(): Promise<void> {
    const server = this.#server
    const closed = new Promise<void>((resolve) => {
      if (server === null) resolve()
      else
        server.close(() => {
          resolve()
        })
    })
    for (const socket of this.#sockets) socket.destroy()
    await closed
    this.#server = null
  }

  async restore(): Promise<void> {
    this.mode = 'pass'
    this.#server = createServer((client) => {
      this.#join(client)
    })
    await new Promise<void>((resolve) => {
      this.#server?.listen(this.#port, '127.0.0.1', resolve)
    })
    const address = this.#server.address()
    if (typeof address === 'object' && address !== null) this.#port = address.port
  }

  #join(client: Socket): void {
    this.accepted++
    const server = connect(this.#target, '127.0.0.1')
    for (const socket of [client, server]) {
      this.#sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        this.#sockets.delete(socket)
        client.destroy()
        server.destroy()
      })
    }
    client.on('data', (piece: Buffer) => {
      this.onRequest(piece)
      if (this.mode !== 'silent') server.write(piece)
    })
    server.on('data', (piece: Buffer) => {
      if (this.mode === 'pass') client.write(piece)
    })
  }
}

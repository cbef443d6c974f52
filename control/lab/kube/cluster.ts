/**
 * A Kubernetes API for tests: the real kube-apiserver, with an etcd of its own, where HEDDLE_KUBE_APISERVER names the
 * program; else a stand-in. What a test does with nodes it does as their administrator, over a unix socket, so that
 * the server may run in another network namespace.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { request } from 'node:https'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { must, type ManagedProcess } from '../process.js'
import { pathOf, readManifest } from './manifest.js'
import type { KubeObject } from './objects.js'

/** Path of a real server. */
export const REAL_SERVER = process.env['HEDDLE_KUBE_APISERVER'] ?? ''

const STAND_IN = fileURLToPath(new URL('api-server.js', import.meta.url))
const START_MS = 60_000
/** Secrets of users; the first may do anything, the second what a flannel may. */
const ADMIN = 'admin-secret'
export const FLANNEL_TOKEN = 'flannel-secret'

/** Where programs run: a namespace of a lab, or this one. */
export interface Place {
  readonly dir: string
  spawn(command: string, args: readonly string[]): Promise<ManagedProcess>
}

export class KubeCluster {
  /** Address of the API as daemons see it. */
  readonly url: string
  /** A kubeconfig for {@link FLANNEL_TOKEN}. */
  readonly kubeconfig: string
  /** Certificate of the authority, PEM. */
  readonly caFile: string
  readonly #place: Place
  readonly #address: string
  readonly #port: number
  readonly #dir: string
  #server: ManagedProcess | null = null

  constructor(place: Place, address: string, port: number) {
    this.#place = place
    this.#address = address
    this.#port = port
    this.#dir = join(place.dir, 'kubernetes')
    mkdirSync(this.#dir, { recursive: true })
    this.url = `https://${address}:${String(port)}`
    this.kubeconfig = join(this.#dir, 'kubeconfig')
    this.caFile = this.#path('ca.pem')
  }

  /** Prepares what stays, and starts the server. */
  async create(): Promise<void> {
    await this.#makeCertificates()
    const groups = '"system:masters"'
    writeFileSync(
      this.#path('tokens'),
      `${ADMIN},system:admin,1,${groups}\n${FLANNEL_TOKEN},flannel,2\n`,
    )
    writeFileSync(this.kubeconfig, this.kubeconfigFor(this.url))
    if (REAL_SERVER !== '') await this.#startEtcd()
    await this.#place.spawn('socat', [
      `UNIX-LISTEN:${this.#path('admin')},fork`,
      `TCP:${this.#address}:${String(this.#port)}`,
    ])
    await this.start()
    if (REAL_SERVER !== '') await this.#grant()
  }

  /** A kubeconfig that leads to an address, such as that of a relay. */
  kubeconfigFor(url: string): string {
    return JSON.stringify({
      'current-context': 'test',
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'flannel' } }],
      clusters: [{ name: 'test', cluster: { server: url, 'certificate-authority': 'ca.pem' } }],
      users: [{ name: 'flannel', user: { token: FLANNEL_TOKEN } }],
    })
  }

  /** Starts the server, and waits until it answers. */
  async start(): Promise<void> {
    const address = [this.#address, String(this.#port)] as const
    this.#server =
      REAL_SERVER === '' ? await this.#startStandIn(...address) : await this.#startReal(...address)
    const deadline = Date.now() + START_MS
    for (;;) {
      const isUp = await this.ask('GET', '/api/v1/nodes').catch(() => null)
      if (isUp !== null) return
      if (!this.#server.running || Date.now() > deadline) {
        throw new Error(`kube-apiserver does not come up:\n${this.#server.stderr().slice(-2000)}`)
      }
      await sleep(50)
    }
  }

  async stop(): Promise<void> {
    await this.#server?.stop(10_000)
  }

  /** The server holds its connections and says nothing any more; `SIGCONT` ends it. */
  signal(signal: NodeJS.Signals): void {
    this.#server?.kill(signal)
  }

  async restart(): Promise<void> {
    await this.stop()
    await this.start()
  }

  /**
   * A node with its subnets, as a kubelet registers it and the controller manager provides it.
   * @param podCIDRs  empty = none assigned yet
   */
  async addNode(
    name: string,
    podCIDRs: readonly string[],
    annotations: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    const [podCIDR] = podCIDRs
    const spec = podCIDR === undefined ? {} : { podCIDR, podCIDRs }
    const metadata = { name, annotations }
    await this.ask('POST', '/api/v1/nodes', { apiVersion: 'v1', kind: 'Node', metadata, spec })
  }

  /** Sets and removes annotations, as `kubectl annotate`. */
  async annotate(
    name: string,
    annotations: Readonly<Record<string, string | null>>,
  ): Promise<void> {
    await this.patchNode(name, { metadata: { annotations } })
  }

  async patchNode(name: string, patch: object): Promise<void> {
    await this.ask('PATCH', `/api/v1/nodes/${name}`, patch)
  }

  async removeNode(name: string): Promise<void> {
    await this.ask('DELETE', `/api/v1/nodes/${name}`)
  }

  /** A pod that a scheduler has put onto a node. */
  async addPod(name: string, namespace: string, nodeName: string): Promise<void> {
    const api = { apiVersion: 'v1' }
    if (REAL_SERVER !== '') {
      const body = { ...api, kind: 'Namespace', metadata: { name: namespace } }
      await this.ask('POST', '/api/v1/namespaces', body)
    }
    const spec = { nodeName, containers: [{ name: 'c', image: 'i' }] }
    const body = { ...api, kind: 'Pod', metadata: { name, namespace }, spec }
    await this.ask('POST', `/api/v1/namespaces/${namespace}/pods`, body)
  }

  async node(name: string): Promise<KubeObject> {
    return (await this.ask('GET', `/api/v1/nodes/${name}`)) as KubeObject
  }

  /** Sends a request as an administrator. @throws Error with what the server said */
  ask(method: string, path: string, body?: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          socketPath: this.#path('admin'),
          method,
          path,
          ca: readFileSync(this.caFile),
          servername: 'kubernetes',
          timeout: 5000,
          headers: {
            authorization: `Bearer ${ADMIN}`,
            'content-type':
              method === 'PATCH' ? 'application/strategic-merge-patch+json' : 'application/json',
          },
        },
        (answer) => {
          const parts: Buffer[] = []
          answer.on('data', (part: Buffer) => parts.push(part))
          answer.on('error', reject)
          answer.on('end', () => {
            const text = Buffer.concat(parts).toString('utf8')
            if ((answer.statusCode ?? 500) < 300) resolve(JSON.parse(text))
            else reject(new Error(`${method} ${path}: ${text}`))
          })
        },
      )
      sent.on('timeout', () => sent.destroy(new Error('no answer')))
      sent.on('error', reject)
      sent.end(body === undefined ? undefined : JSON.stringify(body))
    })
  }

  #path(file: string): string {
    return join(this.#dir, file)
  }

  #startStandIn(address: string, port: string): Promise<ManagedProcess> {
    return this.#place.spawn(process.execPath, [
      STAND_IN,
      `--address=${address}`,
      `--port=${port}`,
      `--cert=${this.#path('cert.pem')}`,
      `--key=${this.#path('key.pem')}`,
      `--tokens=${this.#path('tokens')}`,
      `--data=${this.#path('data')}`,
    ])
  }

  async #startReal(address: string, port: string): Promise<ManagedProcess> {
    // Two families a node came with a switch at first, which later versions do not know.
    const hasSwitch = / v1\.(1\d|2[0-2])\./.test(await must(REAL_SERVER, ['--version']))
    return this.#place.spawn(REAL_SERVER, [
      ...(hasSwitch ? ['--feature-gates=IPv6DualStack=true'] : []),
      `--bind-address=${address}`,
      `--secure-port=${port}`,
      `--advertise-address=${address}`,
      `--tls-cert-file=${this.#path('cert.pem')}`,
      `--tls-private-key-file=${this.#path('key.pem')}`,
      `--token-auth-file=${this.#path('tokens')}`,
      '--authorization-mode=RBAC',
      '--allow-privileged=true',
      '--service-cluster-ip-range=10.96.0.0/16',
      '--service-account-issuer=https://kubernetes',
      `--service-account-signing-key-file=${this.#path('accounts.key')}`,
      `--service-account-key-file=${this.#path('accounts.key')}`,
      `--etcd-servers=http://127.0.0.1:${String(this.#port + 1)}`,
      // Names of pods and nodes, and nothing that waits for controllers.
      '--disable-admission-plugins=ServiceAccount,NodeRestriction,TaintNodesByCondition',
    ])
  }

  async #startEtcd(): Promise<void> {
    await must('openssl', ['genrsa', '-traditional', '-out', this.#path('accounts.key'), '2048'])
    const client = `http://127.0.0.1:${String(this.#port + 1)}`
    const peer = `http://127.0.0.1:${String(this.#port + 2)}`
    await this.#place.spawn('etcd', [
      `--data-dir=${this.#path('etcd')}`,
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=default=${peer}`,
    ])
  }

  /** What the ClusterRole of the manifest grants. */
  async #grant(): Promise<void> {
    const role = readManifest().find(({ kind }) => kind === 'ClusterRole')
    if (role === undefined) throw new Error('the manifest has no ClusterRole')
    await this.ask('POST', pathOf(role), role)
    const group = 'rbac.authorization.k8s.io'
    await this.ask('POST', `/apis/${group}/v1/clusterrolebindings`, {
      metadata: { name: 'test' },
      roleRef: { apiGroup: group, kind: 'ClusterRole', name: role.metadata.name },
      subjects: [{ apiGroup: group, kind: 'User', name: 'flannel' }],
    })
  }

  /** An authority, and the server's certificate signed by it. */
  async #makeCertificates(): Promise<void> {
    if (existsSync(this.caFile)) return
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
    const authority = ['-subj', '/CN=authority', '-keyout', this.#path('ca.key')]
    await must('openssl', ['req', '-x509', ...key, ...authority, '-out', this.caFile])
    const own = ['-subj', '/CN=kubernetes', '-keyout', this.#path('key.pem')]
    const names = `subjectAltName=IP:127.0.0.1,IP:${this.#address},DNS:kubernetes`
    await must('openssl', [
      ...['req', '-x509', ...key, ...own, '-out', this.#path('cert.pem'), '-addext', names],
      ...['-CA', this.caFile, '-CAkey', this.#path('ca.key')],
    ])
  }
}

/**
 * Where the Kubernetes API is and how this host is let in: the service account of a pod, a plain address, or a
 * kubeconfig file.
 */
import { readFile } from 'node:fs/promises'
import { isIPv6 } from 'node:net'
import { join } from 'node:path'
import { HeddleError } from '../errors.js'

export interface KubeAccess {
  /** Address of the API server; its path goes before the paths of the API. */
  readonly server: URL
  /** Certificates to trust in place of the usual ones, PEM; null = the usual ones. */
  readonly ca: Buffer | string | null
  /** False = whoever answers is trusted. */
  readonly isVerified: boolean
  /** Name in the server's certificate, null = that of the address. */
  readonly serverName: string | null
  readonly credentials: CredentialSource
}

/** What this host shows of itself; asked before each request, as it may be short-lived. */
export interface CredentialSource {
  get(): Promise<Credentials>
  /** The server did not take them. */
  forget(): void
}

export interface Credentials {
  /** Value of the Authorization header, null = none. */
  readonly authorization: string | null
  /** Client certificate and key, PEM; null = none. */
  readonly cert: Buffer | string | null
  readonly key: Buffer | string | null
}

export const ANONYMOUS: Credentials = { authorization: null, cert: null, key: null }

export interface KubeAccessOptions {
  /** --kube-api-url, null = not given. */
  readonly apiUrl: string | null
  /** --kubeconfig-file, null = not given. */
  readonly kubeconfigFile: string | null
  /** KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT, empty = not set. */
  readonly serviceHost: string
  readonly servicePort: string
  /** Folder of the service account's files; default where pods find them. */
  readonly serviceAccount?: string
}

/** Where a pod finds its service account. Source: Kubernetes, "Access the API from within a Pod" */
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount'

/**
 * Finds the way to the API as flannel does: a kubeconfig file, whose server an address replaces; an address alone;
 * or, without either, what Kubernetes gives to a pod.
 * @throws HeddleError HEDDLE_USAGE for what cannot be read or used
 */
export async function openAccess(options: KubeAccessOptions): Promise<KubeAccess> {
  const { apiUrl, kubeconfigFile } = options
  if (kubeconfigFile !== null) {
    // Only here: the parser of YAML takes memory that a daemon in a pod has no use for.
    const { readKubeconfig } = await import('./kubeconfig.js')
    return readKubeconfig(kubeconfigFile, apiUrl)
  }
  if (apiUrl === null) return inCluster(options)
  return {
    server: parseServer(apiUrl, '--kube-api-url', 'http'),
    ca: null,
    isVerified: true,
    serverName: null,
    credentials: stateless(() => Promise.resolve(ANONYMOUS)),
  }
}

async function inCluster(options: KubeAccessOptions): Promise<KubeAccess> {
  const { serviceHost: host, servicePort: port, serviceAccount: folder = SERVICE_ACCOUNT } = options
  if (host === '' || port === '') {
    throw new HeddleError(
      'HEDDLE_USAGE',
      '--kube-subnet-mgr outside of a pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set) needs --kubeconfig-file or --kube-api-url',
    )
  }
  const tokenFile = join(folder, 'token')
  const access: KubeAccess = {
    server: parseServer(
      `https://${isIPv6(host) ? `[${host}]` : host}:${port}`,
      'KUBERNETES_SERVICE_HOST',
      'https',
    ),
    ca: await readAccessFile(join(folder, 'ca.crt')),
    isVerified: true,
    serverName: null,
    credentials: stateless(() => bearerOf(tokenFile)),
  }
  await access.credentials.get()
  return access
}

/** Credentials that are made anew each time. */
export function stateless(get: () => Promise<Credentials>): CredentialSource {
  return { get, forget: () => undefined }
}

/** The token of a file, which Kubernetes replaces before it expires. */
export async function bearerOf(tokenFile: string): Promise<Credentials> {
  const token = (await readAccessFile(tokenFile)).toString('utf8').trim()
  return { ...ANONYMOUS, authorization: `Bearer ${token}` }
}

/** @throws HeddleError HEDDLE_USAGE that names the file and never its content */
export async function readAccessFile(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (cause) {
    const why = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unreadable'
    throw new HeddleError('HEDDLE_USAGE', `access to Kubernetes: cannot read ${path}: ${why}`, {
      cause,
    })
  }
}

/**
 * @param text    an address such as `https://10.0.0.1:6443`
 * @param where   named in the error
 * @param scheme  of an address that has none
 * @throws HeddleError HEDDLE_USAGE
 */
export function parseServer(text: string, where: string, scheme: 'http' | 'https'): URL {
  try {
    const url = new URL(/^[a-z]+:\/\//i.test(text) ? text : `${scheme}://${text}`)
    const isNamed = url.username !== '' || url.password !== ''
    if (/^https?:$/.test(url.protocol) && !isNamed) return url
  } catch {
    // said below
  }
  const shown = text.replace(/^([a-z]+:\/\/)?.*@/is, '$1********@')
  throw new HeddleError(
    'HEDDLE_USAGE',
    `${where}=${shown} is no address of a Kubernetes API; write one such as https://10.0.0.1:6443`,
  )
}

/**
 * How one etcd endpoint is reached: its address, its TLS material, and the gRPC settings that
 * decide how soon a dead connection is noticed.
 *
 * Each endpoint gets a client of its own, because etcd3's pool picks endpoints at random (flannel's
 * default list has one that is normally dead), refuses to mix http and https, and by default stops
 * calling for five seconds after three failures. Retrying and choosing happen in etcd-client.ts.
 */
import { readFileSync } from 'node:fs'
import { rootCertificates } from 'node:tls'
import { noop } from 'cockatiel'
import { Etcd3, type IOptions } from 'etcd3'
import { HeddleError } from '../errors.js'

export interface EtcdAccess {
  /** URLs such as `https://10.0.0.1:2379`; without a scheme http, without a port 2379. */
  readonly endpoints: readonly string[]
  /** Client key and certificate, PEM files; both or neither. */
  readonly keyFile?: string
  readonly certFile?: string
  /** Authorities to trust, a PEM file; without it those that Node.js trusts. Used for https only. */
  readonly caFile?: string
  readonly username?: string
  readonly password?: string
}

export interface EtcdTimes {
  /** Bound of one call, over all endpoints together, in ms. Default 5000. */
  readonly timeoutMs: number
  /** Silence on a connection in use, after which it is pinged, in ms. Default 6000; etcd refuses less than 5000. */
  readonly keepAliveMs: number
  /** Time for the answer to such a ping, in ms. Default 3000. */
  readonly keepAliveTimeoutMs: number
}

const DEFAULT_PORT = '2379'

/**
 * A client for each endpoint, not yet connected.
 * @throws HeddleError HEDDLE_USAGE for a bad URL, an unreadable file, or half a key pair
 */
export function createEtcdClients(access: EtcdAccess, times: EtcdTimes): Etcd3[] {
  if (access.endpoints.length === 0) throw new HeddleError('HEDDLE_USAGE', 'no etcd endpoint given')
  if ((access.keyFile === undefined) !== (access.certFile === undefined)) {
    throw new HeddleError('HEDDLE_USAGE', 'the etcd client key and certificate go together')
  }
  return access.endpoints.map((endpoint) => {
    const { host, secure } = parseEndpoint(endpoint)
    const options: IOptions = {
      hosts: `${secure ? 'https' : 'http'}://${host}`,
      defaultCallOptions: ({ isStream }) =>
        isStream ? {} : { deadline: Date.now() + times.timeoutMs },
      faultHandling: { global: noop, host: () => noop },
      grpcOptions: {
        'grpc.keepalive_time_ms': times.keepAliveMs,
        'grpc.keepalive_timeout_ms': times.keepAliveTimeoutMs,
        'grpc.initial_reconnect_backoff_ms': 100,
        'grpc.max_reconnect_backoff_ms': 5000,
        'grpc.max_receive_message_length': -1,
        // A shared pool would hand a new channel the dead connection of the one just given up.
        'grpc.use_local_subchannel_pool': 1,
        'grpc.enable_http_proxy': 0,
      },
    }
    if (secure) options.credentials = readCredentials(access)
    if (access.username !== undefined && access.username !== '') {
      options.auth = { username: access.username, password: access.password ?? '' }
    }
    return new Etcd3(options)
  })
}

function parseEndpoint(endpoint: string): { host: string; secure: boolean } {
  const text = endpoint.trim()
  const match = /^(?:(https?):\/\/)?([\w.-]+|\[[\da-f:]+\])(?::(\d{1,5}))?\/?$/i.exec(text)
  if (match === null) {
    // A password may stand before the @, and this text goes into the log.
    const shown = endpoint.replace(/[^/\s]*@/g, '********@')
    throw new HeddleError(
      'HEDDLE_USAGE',
      `"${shown}" is no etcd endpoint; write http://host:port, a name and password go into --etcd-username and --etcd-password`,
    )
  }
  const [, scheme = 'http', host = '', port = DEFAULT_PORT] = match
  return { host: `${host}:${port}`, secure: scheme.toLowerCase() === 'https' }
}

function readCredentials(access: EtcdAccess): NonNullable<IOptions['credentials']> {
  const root =
    access.caFile === undefined
      ? Buffer.from(rootCertificates.join('\n'))
      : readPem(access.caFile, 'certificate authorities')
  if (access.keyFile === undefined || access.certFile === undefined) {
    return { rootCertificate: root }
  }
  return {
    rootCertificate: root,
    privateKey: readPem(access.keyFile, 'client key'),
    certChain: readPem(access.certFile, 'client certificate'),
  }
}

function readPem(file: string, what: string): Buffer {
  try {
    return readFileSync(file)
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unreadable'
    throw new HeddleError('HEDDLE_USAGE', `etcd ${what} ${file}: ${code}`, { cause })
  }
}

/**
 * Credentials by a command, as `aws eks get-token` and its like give them.
 * Source: client.authentication.k8s.io/v1, ExecCredential; Kubernetes, "client-go credential plugins"
 */
import { dirname, isAbsolute, resolve } from 'node:path'
import { describeError, HeddleError } from '../errors.js'
import { runArguments, type CommandRun } from '../host/command.js'
import { ANONYMOUS, type Credentials, type CredentialSource } from './access.js'
import { objectOf, textOf } from './json.js'

type Fields = Readonly<Record<string, unknown>>

/** How long a plugin may take, ms. */
const PLUGIN_MS = 30_000
/** Credentials without a date are asked for again after this time, ms. */
const UNDATED_MS = 60_000
/** Credentials that expire so soon are not used any more, ms. */
const MARGIN_MS = 30_000

/**
 * Credentials that are kept as long as they are valid; whoever asks meanwhile waits for the same answer.
 * @param exec  the member of the user
 * @param path  of the kubeconfig file: a command with a slash is relative to it
 * @throws HeddleError HEDDLE_USAGE for what is no such member
 */
export function createExecCredentials(exec: Fields, path: string): CredentialSource {
  const run = commandOf(exec, path)
  let known: { readonly credentials: Credentials; readonly untilMs: number } | null = null
  let pending: Promise<Credentials> | null = null
  const ask = async (): Promise<Credentials> => {
    try {
      const status = await answerOf(run)
      const token = textOf(status['token'])
      const expiry = Date.parse(textOf(status['expirationTimestamp']))
      const untilMs = Number.isNaN(expiry) ? Date.now() + UNDATED_MS : expiry - MARGIN_MS
      const credentials = {
        authorization: token === '' ? ANONYMOUS.authorization : `Bearer ${token}`,
        cert: textOf(status['clientCertificateData']) || null,
        key: textOf(status['clientKeyData']) || null,
      }
      known = { credentials, untilMs }
      return credentials
    } finally {
      pending = null
    }
  }
  return {
    get: () => {
      if (known !== null && Date.now() < known.untilMs) return Promise.resolve(known.credentials)
      pending ??= ask()
      return pending
    },
    forget: () => {
      known = null
    },
  }
}

function commandOf(exec: Fields, path: string): CommandRun {
  const fail = (what: string): never => {
    throw new HeddleError('HEDDLE_USAGE', `kubeconfig ${path}: exec${what}`)
  }
  const apiVersion = textOf(exec['apiVersion'])
  const given = textOf(exec['command'])
  if (given === '' || !/^client\.authentication\.k8s\.io\/v1(beta1)?$/.test(apiVersion)) {
    fail(' needs a command, and apiVersion client.authentication.k8s.io/v1 or v1beta1')
  }
  if (exec['provideClusterInfo'] === true) fail('.provideClusterInfo is not supported')
  if (exec['interactiveMode'] === 'Always') fail('.interactiveMode Always: there is nobody to ask')
  const program = given.includes('/') && !isAbsolute(given) ? resolve(dirname(path), given) : given
  const pairs = (Array.isArray(exec['env']) ? exec['env'] : []).map((entry: unknown) => {
    const pair = objectOf(entry)
    return [textOf(pair?.['name']), textOf(pair?.['value'])] as const
  })
  const info = { apiVersion, kind: 'ExecCredential', spec: { interactive: false } }
  return {
    title: program,
    program,
    args: Array.isArray(exec['args']) ? exec['args'].map(textOf) : [],
    variables: { ...Object.fromEntries(pairs), KUBERNETES_EXEC_INFO: JSON.stringify(info) },
    input: '',
    timeoutMs: PLUGIN_MS,
  }
}

async function answerOf(run: CommandRun): Promise<Fields> {
  const fail = (why: string): never => {
    throw new HeddleError('HEDDLE_STORE', `credentials: ${why}`, { retryable: true })
  }
  const text = await runArguments(run).catch((error: unknown) => fail(describeError(error)))
  let answer: unknown
  try {
    answer = JSON.parse(text)
  } catch {
    // It may hold the token: nothing of it is told.
    fail(`the answer of ${run.program} is no JSON`)
  }
  return (
    objectOf(objectOf(answer)?.['status']) ?? fail(`the answer of ${run.program} has no status`)
  )
}

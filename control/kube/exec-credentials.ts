/**
 * Credentials by a command, as `aws eks get-token` and its like give them.
 * Source: client.authentication.k8s.io/v1, ExecCredential; Kubernetes, "client-go credential plugins"
 */
import { dirname, isAbsolute, resolve } from 'node:path'
import { describeError, HeddleError } from '../errors.js'
import { runArguments, type CommandRun } from '../host/command.js'
import { ANONYMOUS, type Credentials } from './access.js'
import { objectOf, textOf } from './node.js'

/** Credentials without a date are asked for again after this time, ms. */
const UNDATED_MS = 60_000
/** Credentials that expire so soon are not used any more, ms. */
const MARGIN_MS = 30_000

/**
 * @param exec  the member of the user
 * @param path  of the kubeconfig file: a command with a slash is relative to it
 * @returns     asks the plugin, or answers what it said as long as that is valid
 * @throws HeddleError HEDDLE_USAGE for what is no such member
 */
export function createExecCredentials(
  exec: Readonly<Record<string, unknown>>,
  path: string,
): () => Promise<Credentials> {
  const apiVersion = textOf(exec['apiVersion'])
  const given = textOf(exec['command'])
  if (given === '' || !/^client\.authentication\.k8s\.io\/v1(beta1)?$/.test(apiVersion)) {
    throw new HeddleError(
      'HEDDLE_USAGE',
      `kubeconfig ${path}: exec needs a command, and apiVersion client.authentication.k8s.io/v1 or v1beta1`,
    )
  }
  const command = given.includes('/') && !isAbsolute(given) ? resolve(dirname(path), given) : given
  const variables = (Array.isArray(exec['env']) ? exec['env'] : []).map((entry: unknown) => {
    const pair = objectOf(entry)
    return [textOf(pair?.['name']), textOf(pair?.['value'])] as const
  })
  const run: CommandRun = {
    title: command,
    program: command,
    args: Array.isArray(exec['args']) ? exec['args'].map(textOf) : [],
    variables: {
      ...Object.fromEntries(variables),
      KUBERNETES_EXEC_INFO: JSON.stringify({
        apiVersion,
        kind: 'ExecCredential',
        spec: { interactive: false },
      }),
    },
    input: '',
  }
  let known: { readonly credentials: Credentials; readonly untilMs: number } | null = null
  return async () => {
    if (known !== null && Date.now() < known.untilMs) return known.credentials
    const status = await ask(run)
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
  }
}

async function ask(run: CommandRun): Promise<Readonly<Record<string, unknown>>> {
  const fail = (why: string): never => {
    throw new HeddleError('HEDDLE_STORE', `credentials by ${run.program}: ${why}`, {
      retryable: true,
    })
  }
  const text = await runArguments(run).catch((error: unknown) => fail(describeError(error)))
  let answer: unknown
  try {
    answer = JSON.parse(text)
  } catch {
    // It may hold the token: nothing of it is told.
    fail('its answer is no JSON')
  }
  return objectOf(objectOf(answer)?.['status']) ?? fail('its answer has no status')
}

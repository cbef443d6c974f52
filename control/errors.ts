/**
 * Errors of the control plane. Match on `code`, never on text.
 */

/** Every code, with what it means; docs/OPERATIONS.md lists them with their remedies. */
export const ERROR_CODES = {
  HEDDLE_USAGE: 'a flag or environment variable is wrong, or asks for something not built yet',
  HEDDLE_CONFIG: 'the network configuration is not valid',
  HEDDLE_INTERFACE: 'no interface or address fits what was asked for',
  HEDDLE_STORE: 'the store failed or cannot be reached',
  HEDDLE_STORE_FORMAT: 'the store holds something that cannot be read',
  HEDDLE_OUT_OF_SUBNETS: 'every subnet of the network is taken',
  HEDDLE_LEASE_LOST: 'the own lease belongs to somebody else now',
  HEDDLE_LEASE_EVICTED: 'the own lease was deleted by an operator',
  HEDDLE_DEVICE: 'a TUN device or socket cannot be opened or has failed',
  HEDDLE_BUSY: 'another daemon holds the same instance, device or port',
  HEDDLE_PERMISSION: 'the process lacks a privilege',
  HEDDLE_APPLY: 'the kernel refused a change of links, addresses or routes',
  HEDDLE_FIREWALL: 'the firewall rules cannot be read or changed',
  HEDDLE_COMMAND: 'a command of the extension backend failed',
  HEDDLE_ENGINE: 'the engine thread died',
  HEDDLE_CAPTURE: 'a capture file is damaged or of an unknown kind',
  HEDDLE_ABORTED: 'the operation was cancelled',
} as const

export type ErrorCode = keyof typeof ERROR_CODES

export class HeddleError extends Error {
  readonly code: ErrorCode
  /** Whether trying again later can help. */
  readonly retryable: boolean

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; retryable?: boolean } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause })
    this.name = 'HeddleError'
    this.code = code
    this.retryable = options.retryable ?? false
  }
}

/** Whether a caught value is a HeddleError, optionally of one code; other packages' errors say no. */
export function isHeddleError(value: unknown, code?: ErrorCode): value is HeddleError {
  return value instanceof HeddleError && (code === undefined || value.code === code)
}

/** A caught value for a log line: its message, and what caused it. */
export function describeError(value: unknown): string {
  if (!(value instanceof Error)) return String(value)
  return value.cause instanceof Error && !value.message.includes(value.cause.message)
    ? `${value.message} (${value.cause.message})`
    : value.message
}

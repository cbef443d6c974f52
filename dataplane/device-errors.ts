/**
 * What a device's refusal means: the verdict about a packet by the errno that it met.
 */
import {
  DROP_TOO_BIG,
  DROP_TUN_BUSY,
  DROP_TUN_ERROR,
  DROP_TX_BUSY,
  DROP_TX_ERROR,
  DROP_TX_UNREACHABLE,
  FORWARD,
  type Verdict,
} from './packet/verdict.js'

// Linux errno numbers (asm-generic/errno.h, errno-base.h) that decide a verdict.
const EPERM = 1
const EIO = 5
const EAGAIN = 11
const EACCES = 13
export const EINVAL = 22
export const EMSGSIZE = 90
const ENOPROTOOPT = 92
const EOPNOTSUPP = 95
const ENETDOWN = 100
const ENETUNREACH = 101
const ENOBUFS = 105
const ECONNREFUSED = 111
const EHOSTDOWN = 112
const EHOSTUNREACH = 113

/** The kernel cannot do what an offload asks (EINVAL, EIO from a device without it, EOPNOTSUPP, ENOPROTOOPT). */
export function isOffloadRefused(errno: number): boolean {
  return errno === EINVAL || errno === EIO || errno === EOPNOTSUPP || errno === ENOPROTOOPT
}

/** The verdict about a packet by what the socket said. */
export function sendVerdict(errno: number): Verdict {
  switch (errno) {
    case 0:
      return FORWARD
    case EAGAIN:
    case ENOBUFS:
      return DROP_TX_BUSY
    case EMSGSIZE:
      return DROP_TOO_BIG
    case EPERM:
    case EACCES:
    case ENETDOWN:
    case ENETUNREACH:
    case ECONNREFUSED:
    case EHOSTDOWN:
    case EHOSTUNREACH:
      return DROP_TX_UNREACHABLE
    default:
      return DROP_TX_ERROR
  }
}

/** The verdict about a packet by what the TUN device said. */
export function writeVerdict(errno: number): Verdict {
  switch (errno) {
    case 0:
      return FORWARD
    case EAGAIN:
    case ENOBUFS:
      return DROP_TUN_BUSY
    default:
      return DROP_TUN_ERROR
  }
}

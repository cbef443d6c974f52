/**
 * MAC addresses as the dataplane holds them, two numbers (see wire/ethernet.ts), and as text.
 */
import { describeMac } from './wire/ethernet.js'

export interface Mac {
  /** Upper 16 bits. */
  readonly high: number
  /** Lower 32 bits, int32. */
  readonly low: number
}

const MAC = /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$|^[0-9a-f]{2}(?:-[0-9a-f]{2}){5}$/i
/** The bit of the first byte that marks a group (IEEE 802 §8.2). */
const GROUP = 0x0100
/** The bit of the first byte that marks an address which no manufacturer gave. */
const LOCAL = 0x0200

/** Reads six bytes in hex between colons or hyphens. @returns null when the text is no MAC address */
export function parseMac(text: string): Mac | null {
  if (!MAC.test(text)) return null
  const digits = text.replace(/[:-]/g, '')
  return { high: parseInt(digits.slice(0, 4), 16), low: parseInt(digits.slice(4), 16) | 0 }
}

/** Lower-case hex between colons. */
export function formatMac(mac: Mac): string {
  return describeMac(mac.high, mac.low)
}

/** Whether frames can be sent to it as to one station: no group and not all zero. */
export function isStation(mac: Mac): boolean {
  return (mac.high & GROUP) === 0 && (mac.high !== 0 || mac.low !== 0)
}

/**
 * Makes a locally administered address of one station.
 * @param random  six random bytes
 */
export function createMac(random: Uint8Array): Mac {
  const view = new DataView(random.buffer, random.byteOffset, 6)
  return { high: (view.getUint16(0) & ~GROUP) | LOCAL, low: view.getInt32(2) }
}

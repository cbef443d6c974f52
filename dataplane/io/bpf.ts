/**
 * An assembler for the few BPF instructions that steering needs.
 *
 * A program is a list of instructions and labels. It begins with the packet's context in r1; the
 * loads want it in r6, put their result in r0 and spoil r1 to r5. A load beyond the packet ends
 * the program with 0.
 *
 * Source: RFC 9669 (BPF ISA) §3–§5, in the byte order of the machine as struct bpf_insn has it.
 */
import { endianness } from 'node:os'

/** A jump's target: the instruction that follows it in the list. */
export interface Label {
  readonly label: string
}

/** One instruction; a jump names its target. */
export interface Instruction {
  readonly code: number
  readonly dst: number
  readonly src: number
  readonly imm: number
  readonly target?: string
}

/** Widths of a load from the packet, which arrives in network byte order and leaves as a number. */
export const WIDTH = { byte: 0x10, half: 0x08, word: 0x00 } as const
export type Width = keyof typeof WIDTH

// Instruction classes and modes (RFC 9669 §2.1, §4, §5).
const LOAD_ABSOLUTE = 0x20
const LOAD_INDIRECT = 0x40
const ALU32 = 0x04
const JUMP = 0x05
const FROM_REGISTER = 0x08
const OPERATIONS = {
  add: 0x00,
  mul: 0x20,
  and: 0x50,
  shl: 0x60,
  shr: 0x70,
  mod: 0x90,
  xor: 0xa0,
  mov: 0xb0,
} as const
export type Operation = keyof typeof OPERATIONS

/** r0 = bytes of the packet at a fixed place. */
export function load(width: Width, at: number): Instruction {
  return { code: LOAD_ABSOLUTE | WIDTH[width], dst: 0, src: 0, imm: at }
}

/** r0 = bytes of the packet at `register + at`. */
export function loadAt(width: Width, register: number, at: number): Instruction {
  return { code: LOAD_INDIRECT | WIDTH[width], dst: 0, src: register, imm: at }
}

/** A calculation on 32 bits with a constant. */
export function constant(operation: Operation, dst: number, imm: number): Instruction {
  return { code: ALU32 | OPERATIONS[operation], dst, src: 0, imm }
}

/** A calculation on 32 bits with another register. */
export function register(operation: Operation, dst: number, src: number): Instruction {
  return { code: ALU32 | FROM_REGISTER | OPERATIONS[operation], dst, src, imm: 0 }
}

/** Copies all 64 bits, as a pointer needs. */
export function copy(dst: number, src: number): Instruction {
  return { code: 0xbf, dst, src, imm: 0 }
}

export function jumpIfEqual(dst: number, imm: number, target: string): Instruction {
  return { code: JUMP | 0x10, dst, src: 0, imm, target }
}

export function jumpUnlessEqual(dst: number, imm: number, target: string): Instruction {
  return { code: JUMP | 0x50, dst, src: 0, imm, target }
}

export function jump(target: string): Instruction {
  return { code: JUMP, dst: 0, src: 0, imm: 0, target }
}

export const exit: Instruction = { code: JUMP | 0x90, dst: 0, src: 0, imm: 0 }

const INSTRUCTION = 8
const IS_LITTLE = endianness() === 'LE'

/**
 * Turns a list into the kernel's form.
 * @throws Error for a jump to a label that the list does not have
 */
export function assemble(list: readonly (Instruction | Label)[]): Uint8Array {
  const places = new Map<string, number>()
  const instructions: Instruction[] = []
  for (const item of list) {
    if ('label' in item) places.set(item.label, instructions.length)
    else instructions.push(item)
  }
  const program = new Uint8Array(instructions.length * INSTRUCTION)
  const view = new DataView(program.buffer)
  instructions.forEach(({ code, dst, src, imm, target }, i) => {
    const at = i * INSTRUCTION
    const place = target === undefined ? i + 1 : places.get(target)
    if (place === undefined) throw new Error(`no label "${String(target)}"`)
    view.setUint8(at, code)
    // Two bit fields of one byte, which a compiler lays out in the machine's order.
    view.setUint8(at + 1, IS_LITTLE ? (src << 4) | dst : (dst << 4) | src)
    view.setInt16(at + 2, place - i - 1, IS_LITTLE)
    view.setInt32(at + 4, imm, IS_LITTLE)
  })
  return program
}

/**
 * What sizes of machine exist. An installation begins with the four that the original API knows, with the texts that it shows;
 * admins add others. A pool's mix (pool.ts) says how many of each it is made of.
 */

/** A type's name. */
export type VmType = string

export interface VmTypeSpec {
  readonly name: VmType
  readonly vcpu: number
  readonly memoryMb: number
}

/** The original API's words for its types. */
export const VM_TYPES = {
  small: { cpu: '2 core', memory: '8 GB' },
  medium: { cpu: '4 core', memory: '16 GB' },
  large: { cpu: '8 core', memory: '64 GB' },
  xlarge: { cpu: '2 x 8 core', memory: '128 GB' },
} as const

/** The types that an installation begins with, smallest first. */
export const FIRST_VM_TYPES: readonly VmTypeSpec[] = [
  { name: 'small', vcpu: 2, memoryMb: 8_192 },
  { name: 'medium', vcpu: 4, memoryMb: 16_384 },
  { name: 'large', vcpu: 8, memoryMb: 65_536 },
  { name: 'xlarge', vcpu: 16, memoryMb: 131_072 },
]

export const VM_TYPE_NAMES: readonly VmType[] = FIRST_VM_TYPES.map(({ name }) => name)

export const VM_TYPES_MAX = 64

/** The first type that a text names, without regard to case; null when there is none. */
export function vmTypeNamed(text: string): VmType | null {
  const name = text.toLowerCase()
  return VM_TYPE_NAMES.find((type) => type === name) ?? null
}

/**
 * What sizes of machine exist. The original API knows exactly these four, and shows their texts; a pool's mix
 * (pool.ts) says how many of each it is made of.
 */
export const VM_TYPES = {
  small: { cpu: '2 core', memory: '8 GB' },
  medium: { cpu: '4 core', memory: '16 GB' },
  large: { cpu: '8 core', memory: '64 GB' },
  xlarge: { cpu: '2 x 8 core', memory: '128 GB' },
} as const

export type VmType = keyof typeof VM_TYPES

export const VM_TYPE_NAMES = Object.keys(VM_TYPES) as readonly VmType[]

/** The VM type that a text names, without regard to case; null when there is none. */
export function vmTypeNamed(text: string): VmType | null {
  const name = text.toLowerCase()
  return VM_TYPE_NAMES.find((type) => type === name) ?? null
}

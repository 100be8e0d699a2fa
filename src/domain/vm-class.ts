/**
 * Which machines of a pool are alike. A class is the machines of one pool with the same type and the same labels: inside it
 * machines are interchangeable, so everything is counted by class, and counts are exact. A machine that somebody waits for or
 * booked by name is moved into a class of its own (a solo class) for as long as it is named.
 *
 * A class is written as a text: `small`, `small,os=debian,rack=7` (labels by name), `small,os=debian#41` (the solo class of
 * machine 41). So a machine's row says all there is to know of its class, and a pool's classes are those it counts.
 */
import type { VmType } from './vm-type.ts'

/** Words on pools and machines that selectors match, for instance {os: 'debian'}. */
export type Labels = Readonly<Record<string, string>>

/** The text of a class, as above. */
export type ClassKey = string

export interface VmClass {
  readonly key: ClassKey
  readonly type: VmType
  readonly labels: Labels
  /** The one machine of a solo class; null for an ordinary class. */
  readonly soloVmId: number | null
}

/** Ordinary classes that a pool may have. */
export const CLASSES_MAX = 64

/** The text of the class of machines of `type` with `labels`; of the solo class of `soloVmId` unless that is null. */
export function classKeyOf(type: VmType, labels: Labels, soloVmId: number | null): ClassKey {
  const names = Object.keys(labels).sort()
  const ordinary =
    names.length === 0 ? type : [type, ...names.map((name) => `${name}=${labels[name]}`)].join()
  return soloVmId === null ? ordinary : `${ordinary}#${soloVmId}`
}

const known = new Map<ClassKey, VmClass>()
const KNOWN_MAX = 10_000

/** The class that a text stands for. */
export function classOf(key: ClassKey): VmClass {
  const found = known.get(key)
  if (found !== undefined) return found
  const [ordinary = '', solo] = key.split('#')
  const [type = '', ...pairs] = ordinary.split(',')
  const labels = Object.fromEntries(pairs.map((pair) => pair.split('=') as [string, string]))
  const vmClass = { key, type, labels, soloVmId: solo === undefined ? null : Number(solo) }
  if (known.size >= KNOWN_MAX) known.clear()
  known.set(key, vmClass)
  return vmClass
}

/** What callers are told when the store fails them: the one place where its exceptions become refusals. */
import { type Refusal, refusal } from '../domain/refusal.ts'
import { OutcomeUnknown, StoreConflict, StoreUnavailable } from '../store/port.ts'

/** The refusal for an exception of the store, or null when it is a bug. */
export function storeRefusal(error: unknown): Refusal | null {
  if (error instanceof StoreUnavailable || error instanceof StoreConflict)
    return refusal('store_unavailable', { reason: error.message })
  if (error instanceof OutcomeUnknown) return refusal('outcome_unknown')
  return null
}

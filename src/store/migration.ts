/**
 * How a database comes to be what this program expects, whichever it is: numbered steps in order, each done once. A step
 * that was released is never edited: the next change is a new step. A database with steps that this program does not know was
 * written by a newer one, and is refused untouched.
 */
import { StoreRefusesToOpen } from './port.ts'

export interface Migration {
  readonly id: number
  readonly name: string
  readonly sql: string
}

/** A step that was done, and when. */
export interface DoneMigration {
  readonly id: number
  readonly name: string
  readonly appliedAtMs: number
}

/** What a database has had done to it, and what this program would do. */
export interface MigrationStatus {
  readonly done: readonly DoneMigration[]
  readonly missing: readonly Migration[]
}

/** The steps of `migrations` that are not done. Throws `StoreRefusesToOpen` when the database is newer than the program. */
export function missingSteps(
  migrations: readonly Migration[],
  done: readonly Pick<DoneMigration, 'id'>[],
): readonly Migration[] {
  const newestDone = Math.max(0, ...done.map(({ id }) => id))
  const newest = migrations.at(-1)?.id ?? 0
  if (newestDone > newest)
    throw new StoreRefusesToOpen(
      `the database was written by a newer Berth (it is at migration ${newestDone}, this program knows ${newest}): start the newer program`,
    )
  return migrations.filter(({ id }) => id > newestDone)
}

/** Throws `StoreRefusesToOpen` when a database lacks steps: whoever only reads it does not do them. `where` names the database. */
export function requireMigrated({ done, missing }: MigrationStatus, where: string): void {
  if (missing.length === 0) return
  throw new StoreRefusesToOpen(
    done.length === 0
      ? `${where} holds no tables of Berth: berth migrate makes them`
      : `${where} lacks migrations that this program needs: berth migrate does them`,
  )
}

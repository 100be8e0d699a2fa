/** A PostgreSQL of a test's own, for what only that shows: being killed, running out of disk, being cut off. */
import { after } from 'node:test'
import { type RunningPostgres, startPostgres } from '../../scripts/embedded-postgres.ts'

const running = new Set<RunningPostgres>()

after(async () => {
  for (const postgres of running) await postgres.stop()
})

/** Starts one that ends with the test file. `parent`: where its folder is made. */
export async function startOwnPostgres(
  flags: readonly string[] = [],
  parent?: string,
): Promise<RunningPostgres> {
  const postgres = await startPostgres(flags, parent)
  running.add(postgres)
  return postgres
}

/**
 * A file that is there whole or not at all, and that only its owner can read: it is written under another name beside its
 * place, synced, and put there at the end.
 */
import { closeSync, existsSync, fsyncSync, linkSync, openSync, renameSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { CommandRefused } from './operator.ts'
import { randomBytes } from './system.ts'

/** Calls `write` with the path of an empty file. Throws `CommandRefused` when there is a file at `path` and no `force`. */
export async function writeNewFile<T>(
  path: string,
  force: boolean,
  write: (temporaryPath: string) => Promise<T>,
): Promise<T> {
  if (existsSync(path) && !force) throw taken(path)
  const temporaryPath = join(dirname(path), `.${basename(path)}.${randomBytes(4).toString('hex')}.part`)
  closeSync(openSync(temporaryPath, 'wx', 0o600))
  const remove = () => rmSync(temporaryPath, { force: true })
  const interrupted = () => {
    remove()
    process.exit(1)
  }
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted)
  try {
    const result = await write(temporaryPath)
    sync(temporaryPath)
    put(temporaryPath, path, force)
    sync(dirname(path))
    return result
  } finally {
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted)
    remove()
  }
}

function put(from: string, path: string, force: boolean): void {
  if (force) {
    renameSync(from, path)
    return
  }
  try {
    // Unlike renaming, it fails where a file came meanwhile.
    linkSync(from, path)
  } catch (error) {
    if ((error as { code?: string }).code === 'EEXIST' || existsSync(path)) throw taken(path)
    // Not every file system has links.
    renameSync(from, path)
  }
}

function taken(path: string): CommandRefused {
  return new CommandRefused(`${path} is there already: choose another name, or overwrite it with --force`)
}

function sync(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

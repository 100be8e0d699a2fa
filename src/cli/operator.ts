/** How a command ends that cannot do what it was asked for: one line for whoever operates it, and exit code 1. A bug keeps its stack. */
import { StoreRefusesToOpen, StoreUnavailable } from '../store/port.ts'
import { TransferRefused } from '../store/transfer.ts'

/** A command cannot do this. The message is one line. */
export class CommandRefused extends Error {
  override readonly name = 'CommandRefused'
}

const TOLD = [StoreRefusesToOpen, StoreUnavailable, TransferRefused, CommandRefused]

export async function forOperator(work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    const line = lineOf(error)
    if (line === null) throw error
    process.stderr.write(`berth: ${line.replace(/\s*\n\s*/g, ' ')}\n`)
    process.exitCode = 1
  }
}

function lineOf(error: unknown): string | null {
  if (TOLD.some((told) => error instanceof told)) return (error as Error).message
  const { code, syscall, message } = error as { code?: string; syscall?: string; message?: string }
  if (code === 'EPIPE') return 'whoever read the output has gone before its end'
  // What the system says of a file: it names it.
  return syscall === undefined || message === undefined ? null : message
}

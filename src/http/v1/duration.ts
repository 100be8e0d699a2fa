/**
 * Durations as ISO 8601 writes them, in weeks, days, hours, minutes and seconds: PT1H, P1DT12H, PT90S. Months and years are not
 * taken: nobody can say how long they are.
 */
const DURATION =
  /^P(?!$)(?:(\d{1,6})W|(?:(\d{1,6})D)?(?:T(?!$)(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9})S)?)?)$/

/** The pattern of a duration's text, for schemas. */
export const DURATION_PATTERN = DURATION.source

const WEEK_S = 604_800
const DAY_S = 86_400
const HOUR_S = 3_600
const MINUTE_S = 60

/** The seconds of a duration; null: the text is none. */
export function durationSeconds(text: string): number | null {
  const parts = DURATION.exec(text)
  if (parts === null) return null
  const [weeks, days, hours, minutes, seconds] = parts.slice(1).map((part) => Number(part ?? 0))
  return (
    (weeks ?? 0) * WEEK_S +
    (days ?? 0) * DAY_S +
    (hours ?? 0) * HOUR_S +
    (minutes ?? 0) * MINUTE_S +
    (seconds ?? 0)
  )
}

/** The shortest text of a duration of whole seconds. */
export function durationText(seconds: number): string {
  const days = Math.floor(seconds / DAY_S)
  const hours = Math.floor((seconds % DAY_S) / HOUR_S)
  const minutes = Math.floor((seconds % HOUR_S) / MINUTE_S)
  const rest = seconds % MINUTE_S
  const time = `${hours > 0 ? `${hours}H` : ''}${minutes > 0 ? `${minutes}M` : ''}${rest > 0 ? `${rest}S` : ''}`
  if (days === 0 && time === '') return 'PT0S'
  return `P${days > 0 ? `${days}D` : ''}${time === '' ? '' : `T${time}`}`
}

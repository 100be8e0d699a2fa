/** How much one user may have at the same time, or in a week. null: as much as there is. */
export interface Quota {
  readonly machinesMax: number | null
  readonly vcpuMax: number | null
  /** Machine-hours in the last seven days, what runs now counted until its end. */
  readonly hoursWeekMax: number | null
  /** Requests that wait at the same time. */
  readonly waitingMax: number | null
}

export const NO_QUOTA: Quota = { machinesMax: null, vcpuMax: null, hoursWeekMax: null, waitingMax: null }

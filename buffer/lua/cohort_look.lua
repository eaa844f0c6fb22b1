-- How cohorts stand that a process waits for. KEYS cohorts; ARGV process.
-- Returns for each of them {state or 'gone', ms until it closes, ms until its deadline, ms left of the lease, votes, verdict or ''}.
-- include cohort_clock
local now, rows = clock(), {}
for i, cohort in ipairs(KEYS) do
  rows[i] = seen(cohort, now, ARGV[1])
end
return rows

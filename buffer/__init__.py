"""What crosses a process border: messages, three streams, the accounts of groups, heartbeats, published weights.

    messages, fields            the wire: types and codec
    connection, streams         a worker's side: claim, renew, hand off, dead letters
    ledger                      the accounts of the driver and the learners: what was issued, and what became of it
    heartbeat, rollout_target   who is alive; how many rollout workers there should be
    stream_state                what lies in the streams, for reports
    weights                     what a learner publishes, sealed with a version and a checksum
    server, server_watchdog, roles   the Redis server that a run starts, and who may do what on it
    lua/                        every change of state is one script

The only package that imports redis. It imports nothing of ours. Invariants I1 to I5 and I7 live here (docs/design.md,
section 3).
"""

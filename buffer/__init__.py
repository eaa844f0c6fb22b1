"""What crosses a process border: messages, three streams, a ledger of outstanding groups, heartbeats, published weights.

    messages, fields                        the wire: types and their strict codec
    connection                              one connection, one namespace a run, and its Lua scripts (lua/)
    streams, stream_state                   a worker's side (claim, renew, hand off, reclaim), and what lies in the streams
    ledger                                  the accounts of the driver and the learners: groups issued, and their outcomes
    heartbeat, rollout_target               which processes are alive, and how many rollout workers there should be
    weights, edition                        what the learner publishes, and which edition is the newest
    server, server_folder, server_watchdog, roles   the Redis that a run starts when it is given none

The only package that imports redis. It imports no other package of ours.
"""

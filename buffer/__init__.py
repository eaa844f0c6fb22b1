"""What crosses a process border: messages, three streams, a ledger of outstanding groups, published weights.

``messages`` is the wire (types and codec), ``streams`` a worker's side (claim, renew, hand on, reclaim),
``ledger`` the accounts of the driver and the learners (what was issued, and what became of it), ``server``
the Redis that a run starts when it is given none, ``weights`` what the learner publishes. The only package
that imports redis; imports nothing of ours.
"""

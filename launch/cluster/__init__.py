"""The only room that knows Ray: it makes plain classes remote, watches them, restarts them and ends them.

ray_session      joins a Ray cluster, or starts one on loopback with a token
ray_cluster      Ray and the Redis server of a run; a plain class becomes an actor
shared_folder    checks that every node sees the run's folder
actor_group      what lives and dies together: a worker alone, or all ranks of a learner
calls, failures  answers of actors, with a limit and with errors of our own
supervision      the driver's loop over actor groups: slices of work, reports, restarts
stage_actors     the actors of one stage, started and ended together; heartbeats are watched here
training_actors  the stages that sample and train
rollout_pool     the rollout workers of a run: as many as the rollout target says
autoscaler       sets that target from the idle ratios
weight_board     how published weights travel
"""

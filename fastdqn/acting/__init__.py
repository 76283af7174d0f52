"""Acting: exploration, the actor of a training run, the policy that comes out of it, evaluation.

May import envs, replay, networks and below; ``policy`` alone pulls in neither replay nor actor.
Start reading at ``policy``; ``actor`` is its twin in training, on the replay's own stacks.
"""

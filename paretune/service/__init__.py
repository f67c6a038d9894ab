"""A server that unmodified W&B clients take for W&B: on one's own machine or cluster, without an account or a network."""

"""The replicas of one machine: the loop, its process, its link to the node's client, the supervisor, preparation."""

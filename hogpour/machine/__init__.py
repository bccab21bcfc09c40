"""The replicas of one machine: the loop, its process, its side of the link, the supervisor, preparation."""

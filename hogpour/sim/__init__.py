"""The laboratory: the cluster in virtual time. Nodes, servers, links, connections and timeouts are those of production;
what is made up is the time, the network, the disk, and how long a replica computes. Everything follows from one seed.

    walls       nothing leaves the simulation: sockets, threads, processes and clocks raise
    loop        an event loop whose time jumps to the next event; hosts, which can die at any moment
    trace       the hash that two runs of one seed share
    network, stream     machines, links, connections: delay, jitter, bandwidth, resets, partitions, slow readers
    disk        what survives a kill, and what a power cut
    compute     how long a replica computes
    scenario, actions   what happens when: a file, and the single actions that follow from it
    replicas, hollow    replica processes, inline; those that only take time
    machine     one node's lives: what ``node`` is in reality
    simulation  a cluster, from its job and scenario to its report; report, plot
    witness     what must always hold, checked while it runs
    faults, ablations, sweep    random scenarios by seed; safeguards that can be switched off; many seeds

Production files import nothing of this.
"""

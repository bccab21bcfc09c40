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
    material    what nodes train, read once for all of them
    machine, station    one life of a node: what ``node`` is in reality; a machine with all its lives
    simulation  a cluster, from its job and scenario to its report
    observer, report    who looks, and what is told
    run, show, plot     the commands, and what a person sees
    witness     what must always hold, checked while it runs
    sweep, batch_sweep, ablations    random scenarios by seed; of batch methods; safeguards to switch off

Production files import nothing of this.
"""

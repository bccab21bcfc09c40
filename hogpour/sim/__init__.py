"""The laboratory: world/ (time, network and disk are made up), checks/ (what must hold). Production imports none of it.

Nodes, servers, clients, connections and timeouts are those of production; everything follows from one seed.
"""

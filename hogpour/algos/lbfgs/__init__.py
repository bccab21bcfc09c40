"""L-BFGS as a generator of vector operations, with sums that are the same bits in any order."""

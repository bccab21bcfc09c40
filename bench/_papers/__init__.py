"""Claims of papers, one file each: the experiment scaled to two cores, and the criterion that decides yes or no.

A file defines ``CLAIM``, one sentence, and ``measure(seeds, size)``, which returns a table and notes. The criterion is
in its constants and functions, written down before the seeds that are reported were run; it looks at measured numbers
only.
"""

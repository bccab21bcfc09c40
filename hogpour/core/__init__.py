"""Words: errors, one flat vector and its cutting, the job, numbers, the registry, what the machine has."""

"""What is made up: time, network, disk, machines."""

"""AWS on this machine: services, event source mapping, fleet simulator."""

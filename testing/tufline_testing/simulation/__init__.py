"""The simulation: the services in virtual time, with faults at moments that a seed determines."""

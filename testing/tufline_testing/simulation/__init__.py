"""The simulation: the services in virtual time, broken at moments that a seed chooses."""

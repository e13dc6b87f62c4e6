"""The hospital: reads its own data, computes contributions, and decides what leaves."""

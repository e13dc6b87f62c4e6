"""Secure aggregation: the parts of the protocol on which both halves must agree (docs/protocol.md)."""

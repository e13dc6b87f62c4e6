"""An aggregator that cheats, and its tricks: what must not work against real sites (docs/protocol.md)."""

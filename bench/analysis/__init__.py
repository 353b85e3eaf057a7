"""Reads facts and says what they mean. Knows only `loadgen.records` and `loadgen.scenario`."""

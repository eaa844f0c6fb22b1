"""The shapes in which people keep preferences: `grm.shapes.table` has them all, a family a file."""

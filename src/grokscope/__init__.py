"""Grokking experiments and exact gradient outer products while networks train."""

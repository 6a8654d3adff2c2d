"""Finished or running runs to grokking times, tables and figures. No torch here."""

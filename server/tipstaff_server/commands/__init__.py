"""The commands of `tipstaff-server`, one module for each group. They hold no rules of their own."""

"""The audit log: acts and their entries, reasons beside it, checkpoints that others keep."""

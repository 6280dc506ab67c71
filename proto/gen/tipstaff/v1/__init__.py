"""Generated from proto/tipstaff/v1 by proto/generate.py; edit the .proto files instead."""

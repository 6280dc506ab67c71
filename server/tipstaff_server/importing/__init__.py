"""Import of lists as courts and bureaus exchange them (docs/formats/import.md)."""

from tipstaff_server.importing.importer import Importer, ImportResult

__all__ = ["ImportResult", "Importer"]

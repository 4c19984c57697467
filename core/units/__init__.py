"""Recurrent units, one per file, all behind the contract of `core.units.contract`."""

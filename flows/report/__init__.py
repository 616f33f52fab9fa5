"""Pages that a person reads: the report of a run and the audit of a projection, each one self-contained file."""

"""The on-disk contract: Arrow schemas, manifests, atomic writers, checked and mapped readers, locks."""

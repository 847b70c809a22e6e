"""Bundles: digests, the manifest, the files. Imports no torch."""

"""Stores of bundles: S3, a directory, a web server. Imports no torch, and no client until used."""

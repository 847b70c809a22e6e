"""Serving over HTTP: the Open Inference Protocol and a friendly way for pictures and seeds.

Needs the extra ``serve``; imports no torch and no click. The parts:

- :mod:`partitioner.serve.service`: what the application needs of a model;
- :mod:`partitioner.serve.app`: ``create_app(services, options)``, an ASGI application;
- :mod:`partitioner.serve.server`: one process that loads a bundle and serves it.
"""

"""The Open Inference Protocol, version 2, over HTTP.

https://github.com/kserve/open-inference-protocol, with the binary tensor data extension of
https://github.com/triton-inference-server/server/blob/main/docs/protocol. Parsing and rendering
are pure; ``routes.py`` alone knows the web framework.
"""

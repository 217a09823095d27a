"""
The process whose guest this plugin is: what other plugins and tests may change in it, and what this plugin sets in it.

- `grpc_import`: the environment variables that gRPC reads when it is imported, and its clock.
- `grpc_private`: all uses of gRPC's private API, each with its reason.
- `grpc_threads`: which threads of gRPC read from sockets.
- `unsupported`: what a process cannot do beside a device: forks for each test, greenlets instead of threads.
- `loggers`: loggers that a thread makes while pytest goes through all of them.
- `real_time`: the clocks that tests cannot replace. `real_files`: the file system that they cannot replace.
"""

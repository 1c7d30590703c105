{
  "targets": [
    {
      "target_name": "tsvmm",
      "sources": [
        "native/addon.c",
        "native/ram.c",
        "native/runloop.c",
        "native/answers.c",
        "native/handover.c",
        "native/poll.c",
        "native/descriptors.c",
        "native/ioengine.c",
        "native/uring.c",
        "native/iothreads.c",
        "native/syscalls.c",
        "native/terminal.c"
      ],
      "cflags": ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-fvisibility=hidden"],
      # nodelete: what libuv still has to call when a worker ends must not be unloaded with it
      "ldflags": ["-Wl,--exclude-libs,ALL", "-Wl,-z,nodelete", "-s"]
    }
  ]
}

{
  "targets": [
    {
      "target_name": "tsvmm",
      "sources": [
        "native/addon.c",
        "native/ram.c",
        "native/runloop.c",
        "native/poll.c",
        "native/ioengine.c",
        "native/terminal.c"
      ],
      "cflags": ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden"],
      "ldflags": ["-Wl,--exclude-libs,ALL", "-s"]
    }
  ]
}

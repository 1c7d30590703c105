{
  "targets": [
    {
      "target_name": "tsvmm",
      "sources": [
        "addon.c",
        "ram.c",
        "runloop.c",
        "poll.c",
        "ioengine.c",
        "terminal.c"
      ],
      "cflags": ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden"],
      "ldflags": ["-Wl,--exclude-libs,ALL", "-s"]
    }
  ]
}

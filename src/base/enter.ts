/*
 * The way in for whatever happens on the host while a machine runs: a file descriptor that is ready, a finished disk
 * request, a byte that was typed. The machine makes one `Enter` and passes it to all that calls back: the reactor, the
 * I/O ring, devices and backends.
 */

/**
 * Runs `run` now, on behalf of the device or backend `name`. What it throws is logged and ends the machine in order;
 * `Enter` itself never throws, and runs nothing any more once the machine has ended.
 */
export type Enter = (name: string, run: () => void) => void;

/** For parts that are used without a machine, as in tests: what `run` throws is the caller's. */
export const enterDirectly: Enter = (_name, run) => run();

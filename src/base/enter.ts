/*
 * How events of the host enter a running machine: a descriptor is ready, a disk request is done, a byte was typed. The
 * machine makes one `Enter` and passes it to all code with callbacks: the reactor, the I/O ring, devices and backends.
 */

/**
 * Runs `run` now, for the device or backend `name`. An error that it throws is logged and ends the machine in order.
 * `Enter` itself never throws. After the machine's end it runs nothing.
 */
export type Enter = (name: string, run: () => void) => void;

/** For parts that are used without a machine, as in tests. An error of `run` reaches the caller. */
export const enterDirectly: Enter = (_name, run) => run();

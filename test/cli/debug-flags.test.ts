/* --gdb, --gdb-wait and --inspect of `run`: what its supervisor is told, and what is refused before anything is made. */
import { once } from "node:events";
import { createServer } from "node:net";
import { resolve } from "node:path";
import { Command } from "commander";
import { expect, test } from "vitest";
import {
	addDebugFlags,
	type DebugFlags,
	debugInLab,
	mustBeFree,
	readDebug,
} from "../../src/cli/container/debug-flags.ts";

function flagsOf(...words: string[]): DebugFlags & { quiet: boolean } {
	const command = addDebugFlags(new Command("run").argument("<image>").argument("[command...]").passThroughOptions());
	command.parse([...words, "busybox"], { from: "user" });
	return { ...command.opts(), quiet: false };
}

test("readDebug has what is asked for, and nothing without a flag", () => {
	expect(readDebug(flagsOf(), undefined)).toBeUndefined();
	expect(readDebug(flagsOf("--gdb", "1234", "--gdb-wait"), undefined)).toMatchObject({ gdb: 1234, gdbWait: true });
	/* Its supervisor is in another directory. */
	expect(readDebug(flagsOf("--gdb", "vm.gdb"), undefined)).toMatchObject({ gdb: resolve("vm.gdb") });
	expect(readDebug(flagsOf("--inspect"), undefined)).toMatchObject({ inspect: 0 });
	expect(readDebug(flagsOf("--inspect-port", "8080"), undefined)).toMatchObject({ inspect: 8080 });
});

test.each([
	[["--gdb-wait"], undefined, "ERR_OPTION_GDB"],
	[["--gdb", "70000"], undefined, "ERR_OPTION_GDB"],
	[["--gdb", "1234"], { kind: "pod", name: "p" }, "ERR_RUN_JOIN"],
	[["--inspect"], { kind: "container", name: "c" }, "ERR_RUN_JOIN"],
] as const)("readDebug refuses %j in the machine of %j", (words, join, code) => {
	expect(() => readDebug(flagsOf(...words), join)).toThrow(expect.objectContaining({ code }));
});

test("mustBeFree refuses a port that another program has", async () => {
	const server = createServer().listen(0, "127.0.0.1");
	await once(server, "listening");
	const { port } = server.address() as { port: number };
	await expect(mustBeFree({ gdb: port })).rejects.toMatchObject({ code: "ERR_GDB_LISTEN" });
	await expect(mustBeFree({ inspect: port })).rejects.toMatchObject({ code: "ERR_INSPECT_PORT" });
	server.close();
	await once(server, "close");
	await mustBeFree({ gdb: port, inspect: port });
	await mustBeFree({ gdb: 0, inspect: 0 });
	await mustBeFree();
});

test("debugInLab publishes the ports, and gives the lab the one that was chosen here", async () => {
	const words = ["container", "run", "--inspect", "busybox", "run"];
	expect(await debugInLab(flagsOf(), words)).toEqual({ ports: [], words });
	const { ports, words: given } = await debugInLab(flagsOf("--gdb", "1234", "--inspect"), words);
	expect(ports).toHaveLength(2);
	const { hostPort, guestPort, hostAddress } = ports[0]!;
	expect([guestPort, hostAddress]).toEqual([hostPort, "127.0.0.1"]);
	expect(given).toEqual(["container", "run", "--inspect-port", `${hostPort}`, "--inspect", "busybox", "run"]);
	expect(flagsOf(...given.slice(2, 5)).inspectPort).toBe(hostPort);
});

/*
 * The end of a process while a guest spins. For every cause, Node's teardown finds no running vCPU thread.
 */
import { spawn } from "node:child_process";
import { beforeAll, describe, expect, it } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { buildBareGuests } from "./bare-guest.ts";

beforeAll(buildBareGuests);

/** Runs a process whose guest of two vCPUs spins, with `ending` executed then; how it ended and its stderr. */
function endOf(ending: string): Promise<{ status: number | null; signal: string | null; stderr: string }> {
	const script = `
		import { BareGuest } from "./test/guest/bare-guest.ts";
		const guest = new BareGuest("ending", { vcpus: 2, irqchip: true });
		guest.pio.add(0x514, 4, { name: "spin", read: () => 4, write() {} });
		guest.runLoop.registerPosted(true, 0x3f8, 1);
		void guest.run();
		const timer = setInterval(() => {
			if (guest.output !== "spinningspinning" && guest.output.length < 16) return;
			clearInterval(timer);
			${ending}
		}, 2);
	`;
	const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
		cwd: packageRoot(),
		stdio: ["ignore", "ignore", "pipe"],
		timeout: 20_000,
		killSignal: "SIGKILL",
	});
	let stderr = "";
	child.stderr.setEncoding("utf8").on("data", (text: string) => {
		stderr += text;
	});
	return new Promise((resolve) => child.on("close", (status, signal) => resolve({ status, signal, stderr })));
}

describe("a process with a spinning guest", () => {
	it("ends by process.exit", async () => {
		expect(await endOf("process.exit(7);")).toEqual({ status: 7, signal: null, stderr: "" });
	});

	it("ends by an uncaught exception, which is told", async () => {
		const end = await endOf('throw new Error("of the test");');
		expect(end).toMatchObject({ status: 1, signal: null });
		expect(end.stderr).toContain("of the test");
	});

	it.each(["SIGINT", "SIGTERM", "SIGHUP", "SIGABRT"] as const)("ends by %s", async (signal) => {
		expect(await endOf(`process.kill(process.pid, "${signal}");`)).toMatchObject({ status: null, signal });
	});

	it("a listener of SIGINT runs on the JavaScript thread, and close ends the process in order", async () => {
		const end = await endOf(`
			process.on("SIGINT", () => { guest.close(); process.exitCode = 3; process.removeAllListeners("SIGINT"); });
			process.kill(process.pid, "SIGINT");
		`);
		expect(end).toEqual({ status: 3, signal: null, stderr: "" });
	});
});

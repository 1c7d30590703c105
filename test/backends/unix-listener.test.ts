import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { UnixListener } from "../../src/backends/unix-listener.ts";
import { FileLock } from "../../src/host/file-lock.ts";

let directory: string;
let path: string;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-uds-"));
	path = join(directory, "v.sock");
});
afterEach(() => {
	vi.restoreAllMocks();
	rmSync(directory, { recursive: true });
});

const ignore = () => undefined;

/** A socket whose process was killed. */
function leaveStale(): void {
	const script = "require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))";
	expect(() => execFileSync(process.execPath, ["-e", script, path])).toThrow();
	expect(existsSync(path)).toBe(true);
}

describe("UnixListener", () => {
	test("makes a socket for its owner alone, whatever the process's umask, and removes it", async () => {
		const umask = vi.spyOn(process, "umask");
		const listener = await UnixListener.open(path, ignore);
		expect(statSync(path).mode & 0o777).toBe(0o600);
		expect(readdirSync(directory)).toEqual(["v.sock"]);
		expect(umask).not.toHaveBeenCalled();
		await listener.close();
		expect(readdirSync(directory)).toEqual([]);
	});

	test("of several that find a stale socket at once one takes its place, and the others find it in use", async () => {
		leaveStale();
		const attempts = await Promise.allSettled(
			Array.from({ length: 6 }, () => UnixListener.open(path, (s) => s.on("error", ignore).end("me"))),
		);
		const open = attempts.flatMap((a) => (a.status === "fulfilled" ? [a.value] : []));
		const codes = attempts.flatMap((a) => (a.status === "rejected" ? [a.reason.code] : []));
		expect([open.length, codes]).toEqual([1, Array(5).fill("ERR_SOCKET_IN_USE")]);
		const client = connect(path);
		expect(await new Promise((resolve) => client.once("data", (data) => resolve(String(data))))).toBe("me");
		client.destroy();
		await open[0]!.close();
		expect(readdirSync(directory)).toEqual([]);
	}, 20_000);

	test("waits for the lock of a process that takes the socket over, and then finds it in use", async () => {
		leaveStale();
		const holder = await FileLock.open(`${path}.lock`);
		await holder.take("exclusive");
		const late = UnixListener.open(path, ignore);
		const refused = expect(late).rejects.toMatchObject({ code: "ERR_SOCKET_IN_USE" });
		await expect.poll(() => readdirSync(directory).some((name) => name.startsWith("."))).toBe(true);
		rmSync(path);
		const other = createServer();
		await new Promise<void>((resolve) => other.listen(path, resolve));
		await holder.close();
		await refused;
		expect(readdirSync(directory).sort()).toEqual(["v.sock", "v.sock.lock"]);
		await new Promise((resolve) => other.close(resolve));
	}, 20_000);

	test("close leaves a socket alone that has taken its name", async () => {
		const listener = await UnixListener.open(path, ignore);
		rmSync(path);
		const other = await UnixListener.open(path, ignore);
		await listener.close();
		expect(existsSync(path)).toBe(true);
		await other.close();
	});

	test("open refuses a path with no room for a socket", async () => {
		await expect(UnixListener.open(join(directory, "x".repeat(110)), ignore)).rejects.toMatchObject({
			code: "ERR_SOCKET",
		});
		expect(readdirSync(directory)).toEqual([]);
	});
});

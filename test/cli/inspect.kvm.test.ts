/*
 * `tsvmm boot --inspect` as a user has it: the address on stderr, a page that reads frames, and an end in order while the
 * page is open. Needs /dev/kvm.
 */
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { beforeAll, expect, test, vi } from "vitest";
import { parseInspect } from "../../src/cli/inspect-flag.ts";
import { elfImage } from "../boot/images.ts";
import { bundle, tsvmm } from "./tsvmm.ts";

/* Each start of tsvmm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 120_000 });

beforeAll(bundle, 60_000);

const BASE = 0x1000000;
/** Prints "up" on COM1, and spins. */
const CODE = [0x66, 0xba, 0xf8, 0x03, 0xb0, 0x75, 0xee, 0xb0, 0x70, 0xee, 0xeb, 0xfe];
const kernel = (directory: string) =>
	writeFileSync(join(directory, "k"), elfImage({ paddr: BASE, code: Buffer.from(CODE), pvhEntry: BASE }));
const boot = ["boot", "--kernel", "k", "--memory", "64M"];

/** A program in the place of the page. It pauses the guest when it sees that it runs, and then asks for the end. */
async function read(address: string, end: () => void): Promise<string[]> {
	const { origin, hash } = new URL(address);
	const headers = { Authorization: `Bearer ${hash.slice(1)}` };
	const page = await (await fetch(origin)).text();
	expect(page).toContain("tsvmm");
	const response = await fetch(`${origin}/api/stream`, { headers });
	const seen: string[] = [];
	let rest = "";
	for await (const part of response.body! as unknown as AsyncIterable<Uint8Array>) {
		const lines = (rest + Buffer.from(part).toString()).split("\n");
		rest = lines.pop()!;
		for (const line of lines.map((text) => JSON.parse(text))) {
			const what = line.state ?? line.ended;
			if (what !== undefined && what !== seen.at(-1)) seen.push(what);
			if (what === "running" && line.counts.printed === 2 && !seen.includes("paused")) {
				await fetch(`${origin}/api/pause`, { method: "POST", headers });
			}
			if (what === "paused") end();
		}
	}
	return seen;
}

test("boot --inspect prints the page's address, and ends in order with a page open", async () => {
	let reading: Promise<string[]> | undefined;
	const outcome = await tsvmm([...boot, "--inspect"], {
		prepare: kernel,
		onOutput: (_stdout, stderr, kill) => {
			const [address] = /http:\S+/.exec(stderr) ?? [];
			if (address !== undefined) reading ??= read(address, () => kill("SIGTERM"));
		},
	});
	expect(outcome).toMatchObject({ status: 0, stdout: "up", left: [] });
	expect(outcome.stderr).toMatch(
		/^tsvmm: inspector at http:\/\/127\.0\.0\.1:\d+\/#[0-9a-f]{32}\ntsvmm: machine stopped\n$/,
	);
	const seen = await reading!;
	expect(seen.slice(-3)).toEqual(["running", "paused", "machine stopped"]);
});

test("boot --inspect says when its port is taken", async () => {
	const server = createServer();
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	try {
		const { port } = server.address() as { port: number };
		const { status, stderr } = await tsvmm([...boot, "--inspect", `${port}`], { prepare: kernel });
		expect([status, stderr]).toEqual([
			125,
			`tsvmm: error: Cannot open the inspector on port ${port}: another program has it [ERR_INSPECT_PORT]\n` +
				"  hint: Leave the number away: --inspect takes a free port\n",
		]);
	} finally {
		server.close();
	}
});

test("parseInspect takes a port", () => {
	expect(["0", "8080", "65535"].map(parseInspect)).toEqual([0, 8080, 65535]);
	for (const text of ["", "65536", "-1", "8080x", "http", "1e3", "123456"]) {
		expect(() => parseInspect(text), text).toThrow(`Cannot read port "${text}" of the inspector`);
	}
});

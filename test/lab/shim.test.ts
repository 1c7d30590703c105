/*
 * The life of a shim, in the lab: it or containerd is killed, a pod has one, and its methods that ctr does not call. Where
 * runc can do the same it is the measure. Also containerd's shim for runc with tsvmm-oci in place of runc.
 */
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { LabCommands } from "./lab-commands.ts";
import { prepareShim } from "./oci/shim-files.ts";
import { LabProgram } from "./program.ts";

/** Far more than it takes where nothing else runs. */
const PLAY_MS = 1_800_000;

let lab: LabCommands;
let program: LabProgram;
let seen: Record<string, Record<string, unknown>>;

beforeAll(async () => {
	const image = await prepareShim();
	program = await LabProgram.bundle("play-shim", "test/lab/oci");
	lab = LabCommands.up();
	const archive = join(lab.directory, "image.tar");
	lab.must("save", "-o", archive, image);
	const shim = join(packageRoot(), "dist/containerd-shim-tsvmm-v2.js");
	seen = JSON.parse(lab.must("lab", "exec", "-q", "--", ...program.command, shim, archive));
}, PLAY_MS);
afterAll(() => {
	lab?.down();
	program?.remove();
});

test("a task whose shim is killed vanishes as runc's does, with its machine and all else", () => {
	expect(seen["killed shim"]).toMatchObject({ started: "= 0\n", killed: 1, left: [] });
	/* The next machine has the namespace's network. */
	expect(seen["killed shim"]?.next).toContain("1 packets received");
	/* runc's leaves its socket. */
	expect(seen["killed shim"]).toEqual({ ...seen["killed shim of runc"], left: [] });
});

test("a task goes on when containerd is killed, and is known to the next one, also when it has ended meanwhile", () => {
	expect(seen["killed daemon"]).toEqual({
		started: "= 0\n",
		again: "r RUNNING\ninside\n= 0\n",
		ended: "exit code 137\n= 0\n",
		left: [],
	});
	expect(seen["killed daemon"]).toEqual(seen["killed daemon with runc"]);
});

test("two starts at once for one pod have one shim, which ends when it is told so", () => {
	const address = "unix:///run/containerd/s/HASH 0";
	expect(seen["two starts"]).toEqual({ isOne: true, address, left: [] });
});

test("two containers of a pod have one shim and one machine, and the shim ends with the last one", () => {
	expect(seen.pod).toMatchObject({ started: "= 0\n", shims: 1, isOneAddress: true, isOneMachine: true });
	/* Each has processes of its own. */
	expect(seen.pod).toMatchObject({ names: "1\nsleep\n= 0\n" });
	expect(seen.pod).toMatchObject({ first: "stays\n= 0\n", isLeft: true, second: "= 0\n", left: [] });
});

test("a shim serves the methods that ctr does not call", () => {
	const running = { id: "p2", status: 2, terminal: false, exit_status: 0 };
	expect(seen.pod).toMatchObject({ updated: {}, limit: 100 << 20, isConnected: true });
	expect(seen.pod?.asked).toMatchObject({
		state: running,
		pids: { processes: [{ pid: expect.any(Number) }] },
		...{ shutdown: {}, resize: {}, close: {} },
		wrong: { code: 3 },
		twice: { code: 6, text: "task p2: already exists" },
		exec: { code: 5, text: "process does not exist none: not found" },
	});
});

test("containerd's shim for runc drives tsvmm-oci as it drives runc", () => {
	expect(seen["as runc"]).toEqual(seen.runc);
	expect(seen.runc).toMatchObject({ left: [] });
});

/*
 * The real command line on hosts that lack something, with streams that are closed or full. Needs root to make such
 * hosts.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { elfImage } from "../boot/images.ts";
import { bundle, type Setting, tsvmm, write } from "./tsvmm.ts";

/* Each start of tsvmm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 60_000 });

beforeAll(bundle, 60_000);
const isRoot = process.getuid!() === 0;

/** Puts a shell before the command: `"$@"` in the script is tsvmm. */
const shell = (script: string) => ["bash", "-c", script, "bash"];
/** The same, in a mount namespace of its own. */
const host = (script: string) => ["unshare", "-m", ...shell(script)];

const boot = (setting: Setting) =>
	tsvmm(["boot", "--kernel", "k", "--memory", "64M"], { prepare: write("k", elfImage()), ...setting });

describe.concurrent("tsvmm", () => {
	test.each([
		["has lost its reader", '"$@" | head -c 0; exit $' + "{PIPESTATUS[0]}", 141, ""],
		[
			"is full",
			'exec "$@" >/dev/full',
			125,
			"tsvmm: error: Cannot write standard output: no space left on device [ERR_OUTPUT]\n",
		],
		["is closed", 'exec "$@" >&-', 0, ""],
	])("prints no stack when standard output %s", async (_what, script, status, stderr) => {
		for (const args of [["image", "ls"], ["kernel", "ls"], ["--help"], ["lab", "status"], ["doctor", "--json"]]) {
			const outcome = await tsvmm(args, { through: shell(script) });
			expect({ args, ...outcome }).toEqual({ args, status, stdout: "", stderr, left: [] });
		}
	});

	test("needs a directory for its cache", async () => {
		expect(await tsvmm(["image", "ls"], { env: { TSVMM_CACHE: "/proc/tsvmm" } })).toEqual({
			status: 125,
			stdout: "",
			stderr:
				"tsvmm: error: Cannot make /proc/tsvmm: no such file or directory [ERR_DIRECTORY]\n" +
				"  hint: Set TSVMM_CACHE, TSVMM_STATE and TSVMM_RUNTIME to directories that you can write\n",
			left: [],
		});
	});
});

describe.concurrent("tsvmm on a host made to order", () => {
	test.runIf(isRoot)("boot says that there is no /dev/kvm", async () => {
		const outcome = await boot({ through: host('mount -t tmpfs none /dev && exec "$@"') });
		expect(outcome).toEqual({
			status: 125,
			stdout: "",
			stderr:
				"tsvmm: error: Cannot open /dev/kvm: this host has no KVM [ERR_KVM_MISSING]\n" +
				"  hint: Load kvm-intel or kvm-amd, or enable VT-x/SVM in the firmware; without either, use the lab (tsvmm lab up)\n",
			left: [],
		});
	});

	test.runIf(isRoot)("boot says that it may not use /dev/kvm", async () => {
		/* Even root may not, without the capability to override permissions. */
		const script = `mount -t tmpfs none /dev && mknod -m 000 /dev/kvm c 10 232 &&
			exec setpriv --bounding-set=-dac_override,-dac_read_search "$@"`;
		expect(await boot({ through: host(script) })).toEqual({
			status: 125,
			stdout: "",
			stderr:
				"tsvmm: error: Cannot open /dev/kvm: permission denied [ERR_KVM_PERMISSION]\n" +
				"  hint: Add yourself to the group that owns it (sudo usermod -aG kvm $USER), then log in again\n",
			left: [],
		});
	});

	test.runIf(isRoot)("boot says that /dev/kvm is something else", async () => {
		const outcome = await boot({ through: host('mount -t tmpfs none /dev && mknod /dev/kvm c 1 3 && exec "$@"') });
		expect(outcome).toMatchObject({ status: 125, stdout: "", left: [] });
		expect(outcome.stderr).toBe(
			"tsvmm: error: Cannot use /dev/kvm: it does not answer as KVM (ENOTTY) [ERR_KVM_OPEN]\n",
		);
	});

	test.runIf(isRoot)("image import says that the store's disk is full, and leaves it as it was", async () => {
		const outcome = await tsvmm(["image", "import", "big.tar", "big:1"], {
			prepare: (directory) => {
				mkdirSync(join(directory, "full"));
				writeFileSync(join(directory, "big"), Buffer.alloc(2 ** 20, "x"));
				execFileSync("tar", ["cf", "big.tar", "big"], { cwd: directory });
			},
			env: { TSVMM_CACHE: "full/cache" },
			through: host(`mount -t tmpfs -o size=300k none full && "$@"; status=$?
				find full -type f -size +0 -printf '%P\\n'; exit $status`),
		});
		expect(outcome).toEqual({
			status: 125,
			stdout: "",
			stderr:
				"tsvmm: error: Cannot write in full/cache/images: no space left on device [ERR_STORE_FULL]\n" +
				"  hint: Remove images with tsvmm image rm, or set TSVMM_CACHE to a directory on a larger disk\n",
			left: [],
		});
	});
});

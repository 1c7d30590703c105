/*
 * Kubernetes' pods: containerd's CRI plugin with its own runtime handler and with ours, both in the lab. A client in place
 * of a kubelet plays the life of two pods, and both handlers give the same answers and leave nothing behind.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { smallTar, writeSmallLayout } from "../../guests/images/layout.ts";
import { packageRoot } from "../../src/host/native.ts";
import type { Played } from "./cri/play.ts";
import { STEPS } from "./cri/steps.ts";
import { LabCommands } from "./lab-commands.ts";
import { LabProgram } from "./program.ts";

let lab: LabCommands;
let program: LabProgram;
let played: Played;

/** The image of sandboxes: busybox, which sleeps. */
async function pauseImage(directory: string): Promise<string> {
	const busybox = { path: "bin/busybox", mode: 0o755, data: readFileSync("/usr/bin/busybox") };
	const config = { Env: ["PATH=/bin"], Entrypoint: ["/bin/busybox", "sleep", "1000000"] };
	await writeSmallLayout(join(directory, "pause"), smallTar([busybox], 0), config, 0);
	const archive = join(directory, "pause.tar");
	execFileSync("tar", ["-C", join(directory, "pause"), "-cf", archive, "."]);
	return archive;
}

beforeAll(async () => {
	const image = await ensureDemoImage("busybox");
	execFileSync(process.execPath, [join(packageRoot(), "scripts/build-stand-in.mjs")]);
	lab = LabCommands.up();
	program = await LabProgram.bundle("play", "test/lab/cri");
	const pause = await pauseImage(lab.directory);
	const busybox = join(lab.directory, "busybox.tar");
	lab.must("save", "-o", busybox, image);
	const files = ["test/lab/cri/runtime.proto", "dist/containerd-shim-tsvmm-v2.js"];
	const words = [...files.map((path) => join(packageRoot(), path)), pause, busybox, "runc", "tsvmm"];
	/* A directory of the host's /var makes the lab have one. */
	const options = ["-q", "--share", "/var/tmp:ro"];
	const output = lab.must("lab", "exec", ...options, "--", ...program.command, ...words);
	played = JSON.parse(output) as Played;
});

afterAll(() => {
	program?.remove();
	lab?.down();
});

test.each(STEPS.map(({ name }, i) => [name, i] as const))("%s", (_name, i) => {
	const { runc, tsvmm } = played;
	expect(JSON.stringify(runc!.answers[i]!.answer)).not.toContain('failed"');
	expect(tsvmm!.answers[i]!.answer).toEqual(runc!.answers[i]!.answer);
});

test("no process, mount, namespace, interface, address, group or state is left", () => {
	expect(played.tsvmm!.left).toEqual([]);
});

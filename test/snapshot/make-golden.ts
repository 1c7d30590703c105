/*
 * Makes a golden snapshot (golden.ts) of the format that src writes, on a host with /dev/kvm:
 *
 *     npx esbuild test/snapshot/make-golden.ts --bundle --platform=node --format=esm --target=node20 --packages=external \
 *         --outfile=dist/make-golden.mjs && node dist/make-golden.mjs; rm dist/make-golden.mjs
 *
 * Any host is to restore it. So the guest needs little, and what this host has in particular is taken out of the state.
 */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Machine } from "../../src/machine/machine.ts";
import { ALPHABET, POWER_OFF, TinyKernels } from "../guest/tiny-kernel.ts";
import { goldenHost, Transcript } from "../guest/transcript.ts";
import { packGolden } from "./golden.ts";

/** Leaves of CPUID that stay, and the features of leaf 1 that every x86-64 processor has. */
const LEAVES = [0, 1, 0x8000_0000, 0x8000_0001];
const LEAF_1_EDX = 0x0700_8371;
const LEAF_80000001_EDX = 0x2010_0800;
const ENTRY_BYTES = 40;

function withU64(base64: string, at: number, value: bigint): string {
	const bytes = Buffer.from(base64, "base64");
	bytes.writeBigUInt64LE(value, at);
	return bytes.toString("base64");
}

const kernels = new TinyKernels();
const directory = mkdtempSync(join(tmpdir(), "golden-"));
const path = join(directory, "snapshot");
const console = new Transcript();
const machine = await Machine.create({
	...goldenHost(console),
	kernel: kernels.write("", [...ALPHABET, ...POWER_OFF]),
	memoryMiB: 64,
});
machine.start();
while (console.text.length < 5) await new Promise(setImmediate);
await machine.pause();
await machine.snapshot(path);
await machine.stop();

const manifest = JSON.parse(readFileSync(join(path, "snapshot.json"), "utf8"));
const state = JSON.parse(readFileSync(join(path, "state"), "utf8"));
for (const vcpu of state.vcpus) {
	const cpuid = Buffer.from(vcpu.cpuid.$bytes, "base64");
	const entries: Buffer[] = [];
	for (let at = 8; at < cpuid.length; at += ENTRY_BYTES) {
		const entry = cpuid.subarray(at, at + ENTRY_BYTES);
		const leaf = entry.readUInt32LE(0);
		if (!LEAVES.includes(leaf)) continue;
		entry.writeUInt32LE(0, 20);
		const features = leaf === 1 ? LEAF_1_EDX : leaf === 0x8000_0001 ? LEAF_80000001_EDX : undefined;
		if (features !== undefined) entry.writeUInt32LE((entry.readUInt32LE(24) & features) >>> 0, 24);
		entries.push(entry);
	}
	const head = Buffer.alloc(8);
	head.writeUInt32LE(entries.length, 0);
	vcpu.cpuid.$bytes = Buffer.concat([head, ...entries]).toString("base64");
	/* XCR0 and XSTATE_BV with the FPU alone, as CPUID has no XSAVE then. */
	vcpu.xcrs.$bytes = withU64(vcpu.xcrs.$bytes, 16, 1n);
	vcpu.xsave.$bytes = withU64(vcpu.xsave.$bytes, 512, 1n);
	vcpu.msrs.$bytes = "";
	vcpu.tscKhz = 0;
	delete vcpu.tscOffset;
}
state.vm.hostTsc = { $u64: "0" };
const text = JSON.stringify(state);
writeFileSync(join(path, "state"), text);
manifest.state = { bytes: Buffer.byteLength(text), sha256: createHash("sha256").update(text).digest("hex") };
manifest.machine.kernel = "alphabet";
/* The files of a golden one have other inodes each time. */
manifest.memory.seal = { device: "0", inode: "0", size: manifest.memory.bytes, changedNs: "0" };
writeFileSync(join(path, "snapshot.json"), `${JSON.stringify(manifest, undefined, "\t")}\n`);
packGolden(path, `format-${manifest.format}`);
kernels.remove();
rmSync(directory, { recursive: true });

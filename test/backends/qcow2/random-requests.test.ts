/*
 * Random requests on qcow2 images. What comes out is what a plain disk would have, and what qemu-img takes for sound.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { BlockBackend } from "../../../src/backends/contract.ts";
import { ImageFile } from "../../../src/backends/qcow2/image-file.ts";
import { readTables } from "../../../src/backends/qcow2/open.ts";
import { Qcow2Disk } from "../../../src/backends/qcow2/qcow2-disk.ts";
import { TsvmmError } from "../../../src/base/errors.ts";
import { setLogLevel } from "../../../src/base/log.ts";
import { Random } from "../../driver/random.ts";
import { Answers, difference, numbered, segmentsOf } from "../block-suite.ts";
import { CrashingFile } from "./crashing-file.ts";
import { image, memory, open, overlay } from "./images.ts";
import { Model } from "./model.ts";
import { check, contentOf } from "./qemu-img.ts";

setLogLevel("error");

describe.each([
	{ what: "clusters of 512 bytes", size: 1 << 20, options: ["-o", "cluster_size=512"] },
	{ what: "refcounts of 1 bit", size: 1 << 20, options: ["-o", "cluster_size=1k,refcount_bits=1"] },
	{ what: "refcounts of 64 bits", size: 1 << 20, options: ["-o", "cluster_size=512,refcount_bits=64"] },
	{ what: "version 2", size: 1 << 20, options: ["-o", "cluster_size=4k,compat=0.10"] },
	{ what: "the usual clusters", size: 4 << 20, options: [] },
	{ what: "compressed clusters", size: 1 << 20, options: ["-c", "-o", "cluster_size=4k"] },
	{ what: "a backing file", size: 1 << 20, options: ["overlay", "-o", "cluster_size=4k"] },
	{ what: "a backing file, version 2", size: 1 << 20, options: ["overlay", "-o", "cluster_size=4k,compat=0.10"] },
])("Qcow2Disk with $what", ({ size, options }) => {
	test.each([1, 2])("is what a plain disk is after random requests, and qemu-img finds no fault (%i)", async (seed) => {
		const random = new Random(seed);
		const content = numbered(size / 512, seed);
		content.fill(0, size / 4, size / 2);
		const path = options[0] === "overlay" ? overlay(content, ...options.slice(1)) : image(content, ...options);
		const model = new Model(content, random, 32_768);
		for (let openings = 0; openings < 2; openings++) {
			const disk = await open(path);
			const answers = new Answers(disk);
			for (let round = 0; round < 24; round++) await model.round(disk, answers);
			await disk.close();
			expect(check(path)).toEqual({ corruptions: 0, leaks: 0 });
			expect(difference(contentOf(path), content)).toBe(-1);
		}
	});
});

test.each([1, 2, 3, 4])(
	"a crash at any time leaves at most leaked clusters, and what was flushed (%i)",
	async (seed) => {
		const random = new Random(seed);
		const size = 256 << 10;
		const content = numbered(size / 512, seed);
		const path = image(content, "-o", `cluster_size=${random.pick(["512", "1k", "4k"])}`);
		const file = CrashingFile.of(path, random);
		const parts = readTables(path, undefined, false);
		const disk = new Qcow2Disk({ path, ...parts, file: new ImageFile(file), backing: undefined });
		const answers = new Answers(disk);
		const model = new Model(content, random, 16_384);
		let flushed = content.slice();
		for (let round = 0; round < 12; round++) {
			await model.round(disk, answers, false);
			if (round % 2 === 1 && round < 10) {
				disk.flush(9);
				disk.submit();
				expect(await answers.of(9)).toEqual(["ok"]);
				flushed = content.slice();
				model.touched.fill(0);
			}
		}
		file.crash();
		for (const crash of file.crashes) {
			writeFileSync(path, crash);
			expect(check(path).corruptions).toBe(0);
		}
		const found = contentOf(path);
		for (let sector = 0; sector < size / 512; sector++) {
			if (model.touched[sector] !== 0) continue;
			const part = (bytes: Uint8Array) => bytes.subarray(sector * 512, (sector + 1) * 512);
			expect(difference(part(found), part(flushed)), `sector ${sector}`).toBe(-1);
		}
	},
);

test("a damaged image is refused, or its requests fail, and nothing throws", async () => {
	const random = new Random(7);
	const size = 64 << 10;
	const made = ["cluster_size=512", "cluster_size=1k,refcount_bits=1", "compat=0.10,cluster_size=512"].map((options) =>
		image(numbered(size / 512), "-o", options),
	);
	made.push(image(numbered(size / 512), "-c", "-o", "cluster_size=4k"));
	const sound = made.map((path) => readFileSync(path));
	const seen = { refused: 0, opened: 0, failed: 0 };
	const ram = memory(size);
	for (let i = 0; i < 150; i++) {
		const which = random.below(made.length);
		const bytes = Buffer.from(sound[which]!);
		/* Mostly in the tables, which these images have near their beginning. */
		for (let n = 1 + random.below(4); n > 0; n--) {
			const at = random.chance(10) ? random.below(112) : 112 + random.below(Math.min(bytes.length, 8192) - 112);
			bytes[at] = random.chance(50) ? random.below(256) : bytes[at]! ^ (1 << random.below(8));
		}
		writeFileSync(made[which]!, bytes);
		let disk: BlockBackend;
		try {
			disk = await open(made[which]!);
		} catch (error) {
			expect(error).toBeInstanceOf(TsvmmError);
			seen.refused++;
			continue;
		}
		seen.opened++;
		const answers = new Answers(disk);
		const sectors = Math.min(disk.sizeBytes, size) / 512;
		for (let token = 0; token < 8 && sectors > 8; token++) {
			const at = random.below(sectors - 8) * 512;
			const list = segmentsOf(ram, [token * 4096, 4096]);
			random.pick([
				() => disk.read(token, at, list),
				() => disk.write(token, at, list),
				() => disk.discard(token, at, 4096),
				() => disk.writeZeroes(token, at, 4096, random.chance(50)),
			])();
		}
		disk.flush(8);
		disk.submit();
		const results = await answers.of(...(sectors > 8 ? [0, 1, 2, 3, 4, 5, 6, 7, 8] : [8]));
		if (results.includes("io")) seen.failed++;
		await disk.close();
	}
	for (const count of Object.values(seen)) expect(count).toBeGreaterThan(1);
});

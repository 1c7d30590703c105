import { appendFileSync } from "node:fs";
import { describe, expect } from "vitest";
import type { FileDiskOptions } from "../../../src/backends/file-disk.ts";
import { setLogLevel } from "../../../src/base/log.ts";
import { blockSuite } from "../block-suite.ts";
import { image, memory, open, overlay, toDisk } from "./images.ts";
import { check, contentOf } from "./qemu-img.ts";

setLogLevel("error");

const FORMS: { name: string; make: (content: Uint8Array) => string; options?: FileDiskOptions }[] = [
	{ name: "Qcow2Disk", make: (content) => image(content) },
	{ name: "Qcow2Disk of version 2", make: (content) => image(content, "-o", "compat=0.10,cluster_size=4k") },
	{ name: "Qcow2Disk with clusters of 512 bytes", make: (content) => image(content, "-o", "cluster_size=512") },
	{ name: "Qcow2Disk with clusters of 2 MiB", make: (content) => image(content, "-o", "cluster_size=2M") },
	{ name: "Qcow2Disk with compressed clusters", make: (content) => image(content, "-c", "-o", "cluster_size=8k") },
	{
		name: "Qcow2Disk with clusters compressed by zstd",
		make: (content) => image(content, "-c", "-o", "compression_type=zstd"),
	},
	{ name: "Qcow2Disk over a raw file", make: (content) => overlay(content) },
	{ name: "Qcow2Disk over a raw file, small clusters", make: (content) => overlay(content, "-o", "cluster_size=1k") },
	{ name: "Qcow2Disk of version 2 over a raw file", make: (content) => overlay(content, "-o", "compat=0.10") },
	{
		name: "Qcow2Disk without the page cache",
		make: (content) => toDisk(image(content, "-o", "cluster_size=16k")),
		options: { direct: true },
	},
	{
		/* As `qemu-img create` leaves a file. */
		name: "Qcow2Disk without the page cache, of a length that is no whole block",
		make: (content) => {
			const path = toDisk(image(content, "-o", "cluster_size=16k"));
			appendFileSync(path, new Uint8Array(8));
			return path;
		},
		options: { direct: true },
	},
];

describe.each(FORMS)("$name", ({ name, make, options }) => {
	blockSuite({
		name,
		make: async (content) => {
			const path = make(content);
			const disk = await open(path, options);
			return {
				disk,
				content: async () => {
					/* QEMU opens no file that is locked. */
					await disk.close();
					expect(check(path)).toEqual({ corruptions: 0, leaks: 0 });
					return contentOf(path);
				},
			};
		},
		memory,
	});
});

/*
 * Images for tests, made by qemu-img. They are closed after each test, and gone after all.
 */
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, afterEach } from "vitest";
import type { BlockBackend } from "../../../src/backends/contract.ts";
import type { FileDiskOptions } from "../../../src/backends/file-disk.ts";
import { openQcow2 } from "../../../src/backends/qcow2/open.ts";
import type { ByteSource } from "../../../src/base/segments.ts";
import { GuestRam } from "../../../src/host/ram.ts";
import { qemuImg } from "./qemu-img.ts";

/** In memory: a flush there takes no time. */
const directory = mkdtempSync("/dev/shm/tsvmm-qcow2-");
/** On a file system that does without the page cache. */
const onDisk = mkdtempSync(join(tmpdir(), "tsvmm-qcow2-"));
afterAll(() => {
	for (const path of [directory, onDisk]) rmSync(path, { recursive: true });
});

const opened: { close(): unknown }[] = [];
afterEach(async () => {
	for (const one of opened.splice(0).reverse()) await one.close();
});

let names = 0;
export const fresh = (suffix: string) => join(directory, `${names++}${suffix}`);

export async function open(path: string, options: FileDiskOptions = {}): Promise<BlockBackend> {
	const disk = await openQcow2(path, options);
	opened.push(disk);
	return disk;
}

export function memory(sizeBytes: number): ByteSource {
	const ram = GuestRam.map([{ gpa: 0, sizeBytes: Math.ceil(sizeBytes / 4096) * 4096 }]);
	opened.unshift(ram);
	const { hva, buffer } = ram.regions[0]!;
	return { hva, bytes: new Uint8Array(buffer) };
}

export function raw(content: Uint8Array): string {
	const path = fresh(".img");
	writeFileSync(path, content);
	return path;
}

/** An image with `content`. */
export function image(content: Uint8Array, ...options: string[]): string {
	const path = fresh(".qcow2");
	qemuImg("convert", "-f", "raw", "-O", "qcow2", ...options, raw(content), path);
	return path;
}

/** An empty image over a raw file with `content`. */
export function overlay(content: Uint8Array, ...options: string[]): string {
	const path = fresh(".qcow2");
	qemuImg("create", "-q", "-f", "qcow2", "-b", raw(content), "-F", "raw", ...options, path);
	return path;
}

/** Copies an image to a file system that does without the page cache. */
export function toDisk(path: string): string {
	const copy = join(onDisk, basename(path));
	copyFileSync(path, copy);
	return copy;
}

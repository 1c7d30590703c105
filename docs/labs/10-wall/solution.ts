/*
 * Lab 10, solved: a container of namespaces on the host's kernel, the same script in a machine, and a way out of the first.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { runContainer } from "tsvmm";

/* The user namespace makes us root in it, so the others need no root of the host. */
const NAMESPACES = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net"];

/* $1 is an empty directory, $2 the script. The host's programs are the container's, too. */
const SET_UP = `
set -e
mount -t tmpfs none "$1"
cd "$1"
mkdir proc usr old
mount -t proc proc proc
mount --rbind /usr usr
for name in bin sbin lib lib64; do ln -s usr/$name $name; done
pivot_root . old
cd /
umount -l old
rmdir old
exec sh -c "$2"
`;

/** Runs a script in a container on this kernel. @param leaked a descriptor of ours, which becomes its descriptor 3 */
export async function contain(script: string, leaked?: number): Promise<string> {
	const root = mkdtempSync(join(tmpdir(), "container-"));
	try {
		const child = spawn("unshare", [...NAMESPACES, "sh", "-c", SET_UP, "sh", root, script], {
			stdio: ["ignore", "pipe", "inherit", ...(leaked === undefined ? [] : [leaked])],
		});
		const [output, [status]] = await Promise.all([text(child.stdout!), once(child, "exit")]);
		if (status !== 0) throw new Error(`the container has ended with status ${status}`);
		return output;
	} finally {
		rmdirSync(root);
	}
}

/** Runs a script in a machine. No descriptor can be given to it: a number means nothing to another kernel. */
export async function enclose(script: string, _leaked?: number): Promise<string> {
	const container = await runContainer({ image: "busybox", args: ["sh", "-c", script], memoryMiB: 128 });
	try {
		return await text(container.stdout);
	} finally {
		await container.stop();
	}
}

/** A script that prints what tells one kernel from another. */
export function probe(): string {
	return "cat /proc/sys/kernel/random/boot_id";
}

/** Whether two outputs of the probe come from one kernel. */
export function sameKernel(one: string, other: string): boolean {
	return one.trim() === other.trim();
}

/** A script that writes a file `canary` into the directory behind a descriptor, wherever that directory is. */
export function breakOut(descriptor: number): string {
	return `echo "I was here" >/proc/self/fd/${descriptor}/canary`;
}

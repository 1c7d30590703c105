/*
 * Rules that read the kernel's own words on its console.
 */
import type { Finding, Rule } from "../finding.ts";
import type { Story } from "../story.ts";

/** Disks by their ids, and those whose driver is ready. */
function disksOf(story: Story): { all: string[]; ready: string[] } {
	const disks = [...story.devices.values()].filter(({ described }) => described?.deviceId === 2);
	return {
		all: disks.map(({ id }) => id),
		ready: disks.filter(({ readyT }) => readyT !== undefined).map(({ id }) => id),
	};
}

function rootOf(story: Story): string | undefined {
	return /(?:^|\s)root=(\S+)/.exec(story.created?.cmdline ?? "")?.[1];
}

/** The kernel found no root file system. */
const wrongRoot: Rule = ({ story }) => {
	const line = story.line(/VFS: (?:Unable to mount root fs|Cannot open root device) ?.*/);
	if (line === undefined) return undefined;
	const root = rootOf(story);
	const { all, ready } = disksOf(story);
	const because = [line[0], root === undefined ? "the command line has no root=" : `the command line has root=${root}`];
	if (all.length === 0) {
		const what = "The kernel wants a root file system, and the machine has no disk and no initrd that starts an init.";
		return { cause: "no-root-disk", what, because, hint: "Give it one: --disk FILE, or --initrd FILE" };
	}
	if (ready.length === 0) {
		because.push(`the machine has ${all.join(", ")}, and no driver has taken it`);
		const what = "The disk with the root file system has no driver in this kernel.";
		return { cause: "missing-driver", what, because, hint: "Use a kernel with virtio_mmio and virtio_blk built in" };
	}
	because.push(`the machine has ${all.join(", ")}, which the guest calls /dev/vda and so on`);
	const what = `The kernel cannot mount ${root ?? "a root file system"}: root= names no disk of it, or a file system that it does not know.`;
	return { cause: "wrong-root", what, because, hint: "Set root=/dev/vda and rootfstype= in --cmdline" };
};

const badInitrd: Rule = ({ story }) => {
	const line = story.line(/Initramfs unpacking failed: .*|RAMDISK: .*(?:error|incomplete|[Ii]nvalid).*/);
	if (line === undefined) return undefined;
	const what = "The initrd is damaged, or is compressed in a way that this kernel does not know.";
	return { cause: "bad-initrd", what, because: [line[0]], hint: "Check it: zcat INITRD | cpio -t" };
};

const noInit: Rule = ({ story }) => {
	const line = story.line(
		/No working init found.*|Failed to execute (\S+) \(error (-?\d+)\)|Requested init (\S+) failed.*/,
	);
	if (line === undefined) return undefined;
	const what = "The kernel has a root file system, and no program in it that it can start as init.";
	const hint = "Give the initrd an executable /init, or name another: --cmdline init=/bin/sh";
	return { cause: "no-init", what, because: [line[0]], hint };
};

const initDied: Rule = ({ story }) => {
	const line = story.line(/Attempted to kill init!.*/);
	if (line === undefined) return undefined;
	const what = "The guest's first program has ended, which a kernel does not survive.";
	return {
		cause: "init-ended",
		what,
		because: [line[0], ...story.output.slice(-3)],
		hint: "Read what init printed",
	};
};

const outOfMemory: Rule = ({ story }) => {
	const line = story.line(
		/Out of memory(?:: .*)?|System is deadlocked on memory|[Cc]annot allocate .*memory|oom-kill:.*/,
	);
	if (line === undefined) return undefined;
	const { memoryMiB } = story.created ?? {};
	const because = [line[0], ...(memoryMiB === undefined ? [] : [`the machine has ${memoryMiB} MiB`])];
	const what = "The guest has no memory left.";
	return { cause: "no-memory", what, because, hint: "Give it more: --memory 1G" };
};

const oops: Rule = ({ story }) => {
	const line = story.line(/(?:BUG: |Oops: |general protection fault|Unable to handle kernel |watchdog: BUG: ).*/);
	if (line === undefined) return undefined;
	const rip = story.line(/RIP: \S+:(\S+)/);
	const because = [line[0], ...(rip === undefined ? [] : [rip[0]])];
	return { cause: "kernel-bug", what: "The guest's kernel has met a defect of its own, or of a module.", because };
};

/** Any other panic, by its own line. */
const panic: Rule = ({ story }) => {
	const line = story.line(/Kernel panic - not syncing: (.*)/);
	const detail = line?.[1] ?? (story.ended?.reason === "panic" ? story.ended.detail : undefined);
	if (line === undefined && story.ended?.reason !== "panic") return undefined;
	const what = `The guest's kernel has panicked: ${detail ?? "it does not say why"}.`;
	return { cause: "panic", what, because: line === undefined ? ["pvpanic told so"] : [line[0]] };
};

/** The most special first: only the first of these is told. */
const SPECIAL: readonly Rule[] = [wrongRoot, noInit, badInitrd, outOfMemory, initDied, oops, panic];

export const kernelLog: Rule = (input): Finding | undefined => {
	for (const rule of SPECIAL) {
		const finding = rule(input);
		if (finding !== undefined) return finding;
	}
	return undefined;
};

/*
 * Lab 10 and wrong attempts at it, up to the machine: there is no image in the cache of a unit test. With the machine
 * the solution is in test/lab/exercises.test.ts.
 */
import { expect, test } from "vitest";
import { checkText, labSuite, labText } from "./attempts.ts";

const SPAWN = 'spawn("unshare", [...NAMESPACES, "sh", "-c", SET_UP, "sh", root, script], {';
const NO_MACHINE = /^enclose (?:throws .*Cannot find image busybox|was not seen to work: )/;

labSuite(
	10,
	[
		{
			what: "no container at all",
			edits: [[SPAWN, 'spawn("sh", ["-c", script], {']],
			finding: /contain\("echo hello from \$\$"\) gives "hello from \d+\\n"/,
			hint: "Make a PID namespace",
		},
		{
			what: "a PID namespace without a process in it",
			edits: [
				['"--fork", ', ""],
				["mount -t proc proc proc", "mount --rbind /proc proc"],
			],
			finding: /contain throws|gives "hello from \d+\\n"/,
		},
		{
			what: "output that is lost",
			edits: [["return output;", 'return "";']],
			finding: 'gives ""; "hello from 1\\n" was expected',
			hint: "collect its standard output",
		},
		{
			what: "no /proc",
			edits: [["rmdir old\n", "rmdir old\numount /proc\n"]],
			finding: "there is no /proc in it",
		},
		{
			what: "the host's network and IPC",
			edits: [[', "--ipc", "--net"', ""]],
			finding: "it shares a namespace with the host: IPC, network",
		},
		{
			what: "the host's /proc, bound",
			edits: [["mount -t proc proc proc", "mount --rbind /proc proc"]],
			finding: "it sees processes of the host, also this check",
		},
		{
			what: "the host's root",
			edits: [
				['mount -t tmpfs none "$1"\ncd "$1"\nmkdir proc usr old\nmount -t proc proc proc', "mount -t proc proc /proc"],
				["mount --rbind /usr usr\nfor name in bin sbin lib lib64; do ln -s usr/$name $name; done", "true"],
				["pivot_root . old\ncd /\numount -l old\nrmdir old", "true"],
			],
			finding: /it sees the host's files: .*\/secret is there, below "\/"/,
		},
		{
			what: "an old root that stays",
			edits: [["umount -l old\nrmdir old", "true"]],
			finding: /it sees the host's files: .*\/secret is there, below "\/old\/"/,
			hint: "umount -l",
		},
		{
			what: "chroot in place of pivot_root",
			edits: [
				["pivot_root . old\ncd /\numount -l old\nrmdir old", "rmdir old"],
				['exec sh -c "$2"', 'exec chroot . sh -c "$2"'],
			],
			finding: "a script has left your root by nsenter",
			hint: "pivot_root in place of chroot",
		},
		{
			what: "a set-up that fails",
			edits: [["mkdir proc usr old", "mkdir proc usr"]],
			finding: "contain throws in line",
		},
		{
			what: "evidence that names have",
			edits: [["cat /proc/sys/kernel/random/boot_id", "uname -n"]],
			finding: /sameKernel takes a container that says to be Linux 2\.6/,
		},
		{
			what: "evidence of a version",
			edits: [["cat /proc/sys/kernel/random/boot_id", "uname -r"]],
			finding: /sameKernel takes a container that says to be Linux 2\.6 .* for another kernel; the probe printed/,
			hint: "Use nothing of uname",
		},
		{
			what: "evidence that passes by",
			edits: [["cat /proc/sys/kernel/random/boot_id", "cat /proc/uptime; date +%N"]],
			finding: "sameKernel takes the host a moment later for another kernel",
		},
		{
			what: "evidence that is never looked at",
			edits: [["return one.trim() === other.trim();", "return one.trim() !== other;"]],
			finding: "for one kernel",
		},
		{
			what: "a descriptor that is not passed on",
			edits: [["...(leaked === undefined ? [] : [leaked])", ""]],
			finding: "the container's descriptor 3 is not the directory that contain was given",
			hint: "the fourth entry of stdio",
		},
		{
			what: "a file beside the canary",
			edits: [["/canary`", "`"]],
			finding: /the host's directory, but the escape wrote no canary; it printed ".*[Dd]irectory/,
		},
		{
			what: "a container in place of a machine",
			edits: [
				[
					"const container = await runContainer(",
					"return await contain(script);\n\tconst container = await runContainer(",
				],
			],
			finding: "it runs on the host's kernel: the probe printed",
		},
		{
			what: "a kernel that only says to be another, with a door",
			edits: [
				["_leaked?: number", "leaked?: number"],
				[
					"const container = await runContainer(",
					'const lie = "echo 1 >/id; mount --bind /id /proc/sys/kernel/random/boot_id; ";\n\treturn await contain(lie + script, leaked);\n\tconst container = await runContainer(',
				],
			],
			finding: "from the machine the host's directory was reached",
			hint: "Share nothing",
		},
		{
			what: "a machine that gives nothing back",
			edits: [
				[
					"const container = await runContainer(",
					'if (script !== "") return "";\n\tconst container = await runContainer(',
				],
			],
			finding: 'enclose gives ""; the output of the whole script was expected',
		},
	],
	NO_MACHINE,
);

test("a host that allows no user namespaces is told so", async () => {
	const through = ["unshare", "--user", "--map-root-user", "sh", "-c"];
	const refuse = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"';
	const { findings } = await checkText(10, labText(10, "solution.ts"), { through: [...through, refuse, "sh"] });
	expect(findings).toEqual([
		{
			verdict: "wrong",
			text: expect.stringMatching(/^this host makes no namespaces for you: .*unshare failed: No space left on device/s),
			hint: expect.stringContaining("Check it in the lab: TSVMM_HOST=lab tsvmm learn check 10"),
		},
	]);
});

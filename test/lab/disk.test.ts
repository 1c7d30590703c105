/*
 * virtio-blk under a real Linux driver. What a guest writes is in the host's file, byte for byte. A read-only disk
 * refuses writes. When a disk fails, the guest gets an I/O error and runs on.
 */
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { ImageStore } from "../../src/container/image/store.ts";
import { builtRootfs } from "../container/image/built-rootfs.ts";
import { Linux } from "./linux.ts";

const MIB = 2 ** 20;
const kernel = "minimal";
let linux: Linux;
/** --disk value of a Debian with fio and file system tools. */
let tools: string;
/** Commands that make it `in_debian COMMAND ...` in the guest. */
const DEBIAN = `
for disk in /sys/block/vd*; do
	read -r id <$disk/serial 2>/dev/null; [ "$id" = tools ] && mount -t squashfs -o ro /dev/\${disk##*/} /mnt
done
mount -t devtmpfs dev /mnt/dev
mount -t proc proc /mnt/proc
mount -t tmpfs tmp /mnt/tmp
# The full path, because busybox takes a bare name for one of its own commands.
in_debian() { chroot /mnt /usr/bin/env -C /tmp PATH=/usr/sbin:/usr/bin "$@"; }
`;

beforeAll(async () => {
	const store = new ImageStore();
	const image = store.find(await ensureDemoImage("debian-tools", { store }));
	tools = `${(await builtRootfs(store, image)).path},ro,id=tools`;
	linux = await Linux.up();
});
afterAll(async () => {
	await linux?.down();
});

/** A new image file of this machine that the lab shares. */
function image(name: string, bytes: number | Uint8Array): string {
	const path = join(linux.directory, name);
	if (typeof bytes === "number") {
		closeSync(openSync(path, "w"));
		truncateSync(path, bytes);
	} else writeFileSync(path, bytes);
	return path;
}

/** For each MiB of a file, the byte that fills it. */
function mibs(path: string): string[] {
	const bytes = readFileSync(path);
	return Array.from({ length: bytes.length / MIB }, (_, mib) => {
		const part = bytes.subarray(mib * MIB, (mib + 1) * MIB);
		return part.every((byte) => byte === part[0]) ? part.toString("hex", 0, 1) : "mixed";
	});
}

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const host = (tool: string, ...args: string[]) => execFileSync(tool, args, { stdio: ["ignore", "pipe", "pipe"] });

describe("a file system", () => {
	test.each(["minimal", "6.12-cloud"] as const)(
		"written by a %s guest is clean, and its files hash-equal on the host",
		async (which) => {
			const disk = image(`ext4-${which}`, 24 * MIB);
			host("mkfs.ext4", "-q", disk);
			const given = randomBytes(MIB);
			const source = image(`source-${which}`, given);
			const script = `
set -e
mount -t ext4 /dev/vda /mnt
mkdir -p /mnt/deep/er
cat /dev/vdb >/mnt/deep/er/given
head -c 3000000 /dev/urandom >/mnt/random
i=0; while [ $i -lt 40 ]; do echo $i >/mnt/file$i; i=$((i + 1)); done
rm /mnt/file7
ln -s deep/er/given /mnt/link
sync
sha256sum /mnt/random
umount /mnt
`;
			const { output } = await linux.check({ kernel: which, disks: [disk, `${source},ro`], script });
			host("e2fsck", "-f", "-n", disk);
			const dump = (path: string) => {
				const to = join(linux.directory, "dumped");
				host("debugfs", "-R", `dump ${path} ${to}`, disk);
				return readFileSync(to);
			};
			expect(sha256(dump("/deep/er/given"))).toBe(sha256(given));
			const random = dump("/random");
			expect(random.length).toBe(3_000_000);
			expect(sha256(random)).toBe(output.split(" ")[0]);
			expect(String(dump("/file39"))).toBe("39\n");
			expect(String(host("debugfs", "-R", "ls -p /", disk))).not.toContain("/file7/");
		},
	);

	test("made by the guest is clean on the host, in an image over another one", async () => {
		const base = image("base.img", 16 * MIB);
		const disk = join(linux.directory, "mkfs.qcow2");
		host("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", disk);
		const script = `${DEBIAN}
set -e
in_debian mkfs.ext4 -q /dev/vda
mkdir /made
mount -t ext4 /dev/vda /made
cp /init /made
umount /made`;
		await linux.check({ kernel, disks: [disk, tools], script });
		host("qemu-img", "check", disk);
		const made = join(linux.directory, "mkfs.img");
		host("qemu-img", "convert", "-O", "raw", disk, made);
		host("e2fsck", "-f", "-n", made);
		expect(String(host("debugfs", "-R", "cat /init", made))).toBe(readFileSync("guests/test/init", "utf8"));
		expect(readFileSync(base).every((byte) => byte === 0)).toBe(true);
	});
});

describe("disks", () => {
	test("come in order, with their ids, sizes and ways to write", async () => {
		const disks = [
			`${image("one", MIB)},id=first-disk`,
			`${image("two", 2 * MIB)},ro`,
			`${image("three", 3 * MIB)},id=12345678901234567890`,
		];
		const script = `
for disk in /sys/block/vd*; do
	id=; read -r id <$disk/serial
	echo "\${disk##*/} id=$id $(cat $disk/size) ro=$(cat $disk/ro) $(cat $disk/queue/write_cache)"
done`;
		const { output } = await linux.check({ kernel, disks, script });
		expect(output.trim().split("\n").slice(0, 3)).toEqual([
			"vda id=first-disk 2048 ro=0 write back",
			expect.stringMatching(/^vdb id=\S* 4096 ro=1 write back$/),
			"vdc id=12345678901234567890 6144 ro=0 write back",
		]);
	});

	test("that are read-only refuse to be written, and stay as they are", async () => {
		const bytes = randomBytes(MIB);
		const disk = image("ro.img", bytes);
		/* blockdev turns the guest's own protection off, so that the device itself must refuse. */
		const script = `
sha256sum </dev/vda
dd if=/dev/zero of=/dev/vda bs=4096 count=1 conv=fsync 2>&1 && echo written
blockdev --setrw /dev/vda
dd if=/dev/zero of=/dev/vda bs=4096 count=1 conv=fsync 2>&1 && echo written
sha256sum </dev/vda
true`;
		const { output } = await linux.check({ kernel, disks: [`${disk},ro`], script });
		expect(output).not.toContain("written\n");
		expect(output.match(new RegExp(sha256(bytes), "g"))).toHaveLength(2);
		expect(sha256(readFileSync(disk))).toBe(sha256(bytes));
	});

	test("that are discarded or zeroed have holes on the host, where its file system has holes", async () => {
		/* The lab's own memory file system punches holes; its share of this machine's files (9p) does not. */
		const shared = image("discard.img", Buffer.alloc(8 * MIB, 0xa5));
		const own = "/dev/shm/discard.img";
		await linux.sh(`cp ${shared} ${own}`);
		const blocks = async () => Number(await linux.sh(`stat -c %b ${own}`));
		const before = await blocks();
		const script = `${DEBIAN}
set -e
cat /sys/block/vda/queue/discard_max_bytes /sys/block/vda/queue/write_zeroes_max_bytes
for disk in vda vdb; do
	in_debian blkdiscard -o 1048576 -l 2097152 /dev/$disk
	in_debian fallocate -p -o 5242880 -l 1048576 /dev/$disk
done
sync`;
		const { output } = await linux.check({ kernel, disks: [own, shared, tools], script });
		for (const limit of output.trim().split("\n").slice(0, 2)) expect(Number(limit)).toBeGreaterThan(0);
		expect(before - (await blocks())).toBe((3 * MIB) / 512);
		const copy = join(linux.directory, "discard.copy");
		await linux.sh(`cp ${own} ${copy}; rm ${own}`);
		expect(mibs(copy)).toEqual(["a5", "00", "00", "a5", "a5", "00", "a5", "a5"]);
		/* A device may ignore a discard. It must write zeroes. */
		expect(mibs(shared)).toEqual(["a5", "a5", "a5", "a5", "a5", "00", "a5", "a5"]);
	});
});

test("fio writes at random and verifies what it wrote, and notices a block that was changed", async () => {
	const disk = image("fio.img", 8 * MIB);
	const job = "--name=random --filename=/dev/vda --rw=randwrite --ioengine=libaio --direct=1 --iodepth=8 --thread";
	const size = "--size=4M --bssplit=4k/60:16k/30:64k/10 --randrepeat=1";
	const verify = "--verify=crc32c --verify_fatal=1 --do_verify=1 --verify_state_save=0 --output-format=json";
	const script = `${DEBIAN}
echo queues $(ls /sys/block/vda/mq | wc -l)
in_debian fio ${job} ${size} ${verify} >/tmp/report 2>&1
echo written $?
grep -E '"error"|"io_kbytes"|"total_ios"' /tmp/report
dd if=/dev/zero of=/dev/vda bs=512 count=1 seek=4000 oflag=direct 2>/dev/null
in_debian fio ${job} ${size} ${verify} --verify_only=1 >/tmp/report 2>&1
echo changed $?
`;
	const { output } = await linux.check({ kernel, cpus: 2, memoryMiB: 256, disks: [disk, tools], script });
	const [queues, written, ...report] = output.split("\n").map((line) => line.trim());
	const changed = report.find((line) => line.startsWith("changed"));
	/* One for each vCPU. */
	expect(queues).toBe("queues 2");
	expect({ written, error: report[0] }).toEqual({ written: "written 0", error: '"error" : 0,' });
	/* The guest has read back all that it has written. */
	expect(report.filter((line) => line === '"io_kbytes" : 4096,')).toHaveLength(2);
	expect(changed).toMatch(/^changed [1-9]/);
	const bytes = readFileSync(disk);
	expect(bytes.subarray(0, 4 * MIB).some((byte) => byte !== 0)).toBe(true);
	expect(bytes.subarray(4 * MIB).every((byte) => byte === 0)).toBe(true);
});

describe("a disk that fails under the running guest", () => {
	test("on purpose: the guest has I/O errors, and reads from a device in a file, which changes meanwhile", async () => {
		const disk = image("faults.img", 4 * MIB);
		const device = join(linux.directory, "rng.ts");
		const example = readFileSync("docs/examples/pattern-rng.ts", "utf8");
		writeFileSync(device, example);
		const script = `
dmesg -n 1
for at in $(seq 0 39); do
	dd if=/dev/vda of=/dev/null bs=4096 skip=$at count=1 iflag=direct 2>/dev/null && echo -n . || echo -n x
done
echo; head -c 30 /dev/hwrng
echo ready; read -r line
head -c 4096 /dev/hwrng | tail -n 3`;
		const faults = ["--fault", "blk0:read:io-error:30%", "--fault-seed", "7"];
		const args = [...faults, "--device", device];
		const guest = await linux.spawn({ kernel, disks: [disk], script, args });
		await guest.shows("ready\n");
		writeFileSync(device, example.replace("I am not random", "changed"));
		await guest.hears("was loaded again");
		guest.type("\n");
		const { output, status, stderr } = await guest.ended();
		expect(status).toBe(0);
		const [reads, ...rest] = output.split("\n");
		expect(reads).toMatch(/^[.x]{40}$/);
		/* Linux reads partition tables besides. */
		const failed = [...reads!].filter((read) => read === "x").length;
		expect(failed).toBeGreaterThan(3);
		expect(Number(/io-error:30% hit (\d+) of/.exec(stderr)?.[1])).toBeGreaterThanOrEqual(failed);
		expect(rest[0]).toBe("I am not random");
		expect(rest.slice(-3)).toContain("changed");
	});

	test("truncated: the guest has I/O errors for what is gone, and goes on", async () => {
		const disk = image("shrinks.img", Buffer.alloc(4 * MIB, 0x5a));
		const script = `
dmesg -n 1
dd if=/dev/vda of=/dev/null bs=4096 count=1 2>/dev/null && echo good before
echo ready; read -r line
dd if=/dev/vda of=/dev/null bs=4096 count=1 skip=1000 iflag=direct 2>&1 | grep -o 'Input/output error'
dd if=/dev/vda bs=4096 count=1 skip=1 iflag=direct 2>/dev/null | wc -c
echo alive`;
		const guest = await linux.spawn({ kernel, disks: [disk], script });
		await guest.shows("ready\n");
		truncateSync(disk, MIB);
		guest.type("\n");
		const { output, status, scriptStatus } = await guest.ended();
		expect({ status, scriptStatus }).toEqual({ status: 0, scriptStatus: 0 });
		expect(output).toContain("good before\n");
		expect(output).toMatch(/\nInput\/output error\n4096\nalive\n$/);
	});

	test("removed: the guest keeps what tsvmm has open", async () => {
		const disk = join("/dev/shm", "removed.img");
		await linux.sh(`truncate -s 1M ${disk}`);
		const script = `
echo ready; read -r line
echo kept | dd of=/dev/vda bs=512 conv=sync,fsync 2>/dev/null
dd if=/dev/vda bs=5 count=1 iflag=fullblock 2>/dev/null`;
		const guest = await linux.spawn({ kernel, disks: [disk], script });
		await guest.shows("ready\n");
		await linux.sh(`rm ${disk}`);
		guest.type("\n");
		const { output, status } = await guest.ended();
		expect(status).toBe(0);
		expect(output).toMatch(/\nkept\n$/);
	});

	test("on a full file system: the guest has I/O errors for new blocks, keeps the old, and goes on", async () => {
		await linux.sh(
			"mkdir /run/small && mount -t tmpfs -o size=2m small /run/small && truncate -s 8M /run/small/disk.img",
		);
		try {
			const script = `
dmesg -n 1
dd if=/dev/urandom of=/tmp/block bs=65536 count=1 2>/dev/null
dd if=/tmp/block of=/dev/vda bs=65536 conv=fsync 2>/dev/null && echo first
dd if=/dev/zero of=/dev/vda bs=65536 seek=1 count=127 oflag=direct 2>&1 | grep -o 'Input/output error\\|No space left on device'
dd if=/dev/vda bs=65536 count=1 iflag=direct 2>/dev/null | cmp - /tmp/block && echo kept
echo alive`;
			const { output, status, scriptStatus } = await linux.boot({ kernel, disks: ["/run/small/disk.img"], script });
			expect({ status, scriptStatus }).toEqual({ status: 0, scriptStatus: 0 });
			expect(output).toMatch(/first\n(?:Input\/output error|No space left on device)\nkept\nalive\n/);
		} finally {
			await linux.sh("umount /run/small && rmdir /run/small");
		}
	});
});

/*
 * virtio-fs under a real Linux driver: what programs count on of a file system, on a directory of the host with ext4.
 * The guest has its programs from the host as well: /usr is a read-only share.
 */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { Linux, type RunningLinux } from "./linux.ts";

const SHARE = "/run/fs-share";
const FS_CHECKS = join(packageRoot(), "guests/test/fs-checks.py");
/** Makes the host's programs the guest's. */
const PROGRAMS = `
mkdir -p /usr /etc /share
mount -t virtiofs -o ro programs /usr || exit 1
ln -s usr/lib /lib; ln -s usr/lib64 /lib64
echo root:x:0:0:root:/:/bin/sh >/etc/passwd
export PATH=/usr/bin:/usr/sbin:/bin
`;
const args: string[] = ["--fs", "tag=programs,path=/usr,ro,cache=always"];

let linux: Linux;
beforeAll(async () => {
	linux = await Linux.up();
	const image = "/dev/shm/fs-share.img";
	await linux.sh(`
		set -e
		modprobe loop 2>/dev/null || true
		truncate -s 400M ${image}; mkfs.ext4 -q -b 4096 -N 50000 ${image}
		mkdir -p ${SHARE}; mount -o loop ${image} ${SHARE}`);
});
afterAll(async () => {
	await linux?.sh(`umount ${SHARE}; rm -f /dev/shm/fs-share.img`).catch(() => undefined);
	await linux?.down();
});

/** Names of the checks in guests/test/fs-checks.py. */
const CHECKS = [
	...["names", "rename_over_and_unlink_while_open", "tmpfile", "exchange", "mapped", "execute", "append", "locks"],
	...["sqlite", "sparse", "xattrs", "tar", "permissions", "large", "git", "npm", "thousands"],
];

describe("a directory of the host in a guest", () => {
	let output = "";
	beforeAll(async () => {
		await linux.sh(`
			set -e
			cp ${FS_CHECKS} ${SHARE}/checks.py
			mkdir ${SHARE}/thousands; cd ${SHARE}/thousands; seq 20000 | xargs touch`);
		const script = `${PROGRAMS}
mount -t virtiofs share /share || exit 1
mkdir /share/checks
python3 /share/checks.py /share/checks ${CHECKS.join(" ")}
df -k /share | tail -1
umount /share`;
		const share = ["--fs", `tag=share,path=${SHARE}`];
		const options = {
			kernel: "6.12-cloud" as const,
			cpus: 2,
			memoryMiB: 512,
			args: [...args, ...share],
			timeoutMs: 540_000,
		};
		({ output } = await linux.check({ ...options, script }));
	}, 600_000);

	test.each(CHECKS)("is what programs count on: %s", (name) => {
		const line = output
			.split("\n")
			.find((text) => text.startsWith(`ok ${name} `) || text.startsWith(`failed ${name}:`));
		expect(line ?? output).toMatch(`ok ${name} `);
	});

	test("has on the host what the guest has written, bit for bit", async () => {
		const digest = /^large ([0-9a-f]{64})$/m.exec(output)?.[1];
		expect(await linux.sh(`sha256sum <${SHARE}/checks/large/large`)).toContain(digest);
		expect((await linux.sh(`stat -c '%u %a' ${SHARE}/checks/permissions/mine`)).trim()).toBe("1000 644");
	});
});

test("a Debian kernel's module mounts it, sees what the host changes, and cannot write to what is read-only", async () => {
	await linux.sh(`mkdir -p ${SHARE}/live && echo before >${SHARE}/live/file`);
	const script = `
mount -t virtiofs live /mnt || exit 1
cat /mnt/file
echo ready; read -r line
cat /mnt/file /mnt/new
echo x >/mnt/other || echo refused
mount -o remount,rw /mnt; rm /mnt/file || echo refused
mount -t virtiofs nothing /mnt || echo no such tag`;
	const share = ["--fs", `tag=live,path=${SHARE}/live,ro`];
	const guest: RunningLinux = await linux.spawn({ kernel: "6.12-cloud", script, args: share });
	await guest.shows("ready\n");
	await linux.sh(`echo after >${SHARE}/live/file; echo new >${SHARE}/live/new`);
	guest.type("\n");
	const { output, status } = await guest.ended();
	expect(status).toBe(0);
	expect(output).toMatch(/^before\nready\n[\s\S]*after\nnew\n[\s\S]*refused\n[\s\S]*refused\n[\s\S]*no such tag/);
	expect((await linux.sh(`ls ${SHARE}/live`)).trim()).toBe("file\nnew");
});

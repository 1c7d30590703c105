import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ensureDemoImage } from "../../../guests/images/demo.ts";
import { smallTar } from "../../../guests/images/layout.ts";
import { ImageStore } from "../../../src/container/image/store.ts";
import { cacheDirectory } from "../../../src/host/directories.ts";
import { useDirectory } from "./archives.ts";
import { builtRootfs } from "./built-rootfs.ts";

const directory = useDirectory();

test("ensureDemoImage makes busybox from Debian's package, the same image each time", async () => {
	/* The package stays in the cache of this machine; the stores are new. */
	const digests = [];
	for (const name of ["one", "two"]) {
		const store = new ImageStore(join(directory.path, name, "images"));
		const [reference] = await Promise.all([
			ensureDemoImage("busybox", { store }),
			ensureDemoImage("busybox", { store }),
		]);
		expect(reference).toBe("busybox:latest");
		const image = store.find("busybox");
		digests.push(image.digest);
		expect(image.config).toMatchObject({ cmd: ["sh"], architecture: "amd64", os: "linux" });
		const { path } = await builtRootfs(store, image);
		const list = execFileSync("unsquashfs", ["-lln", path], { encoding: "utf8" });
		expect(list).toMatch(/^-rwxr-xr-x 0\/0 .* squashfs-root\/bin\/busybox$/m);
		expect(list).toMatch(/^lrwxrwxrwx 0\/0 .* squashfs-root\/bin\/sh -> \/bin\/busybox$/m);
		expect(list).toMatch(/^drwxrwxrwt 0\/0 .* squashfs-root\/tmp$/m);
	}
	expect(readdirSync(cacheDirectory()).filter((entry) => entry.startsWith(".demo-busybox"))).toEqual([]);
	expect(digests[0]).toBe(digests[1]);
}, 120_000);

test("smallTar is what GNU tar reads", () => {
	const data = smallTar([{ path: "b/c", data: "c" }, { path: "b" }, { path: "a", target: "b/c" }], 86_400);
	const list = execFileSync("tar", ["--utc", "--full-time", "-tvf", "-"], { input: data, encoding: "utf8" });
	expect(list.trim().split("\n")).toEqual([
		"lrwxrwxrwx 0/0               0 1970-01-02 00:00:00 a -> b/c",
		"drwxr-xr-x 0/0               0 1970-01-02 00:00:00 b/",
		"-rw-r--r-- 0/0               1 1970-01-02 00:00:00 b/c",
	]);
});

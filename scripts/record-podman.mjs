/*
 * Records podman's answers for test/lab/podman/rows.ts, with which podman-table.test.ts compares tsvmm's:
 *
 *     node scripts/record-podman.mjs
 *
 * It takes root, Debian's podman and runc, and the busybox image of the store (`npm run images`).
 */
import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { transform } from "esbuild";
import { main, root, say } from "./steps.mjs";

const IMAGE = "docker.io/library/busybox:latest";
/** cgroups of version 1 will do, raising limits need not be allowed, and nothing is taken from the host's own podman. */
const CONTAINERS_CONF = `[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
netns = "none"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
`;

async function record() {
	const folder = join(root, "test/lab/podman");
	const { code } = await transform(readFileSync(join(folder, "rows.ts"), "utf8"), { loader: "ts" });
	const { COMMIT_ROWS, CREATE_ROWS, IMAGE_ROWS, RUN_ROWS } = await import(
		`data:text/javascript;base64,${Buffer.from(code).toString("base64")}`
	);
	const directory = mkdtempSync(join(tmpdir(), "record-podman-"));
	const podman = join(directory, "podman");
	const flags = ["--root", join(directory, "root"), "--runroot", join(directory, "run"), "--storage-driver", "vfs"];
	const env = { ...process.env, CONTAINERS_CONF: join(directory, "containers.conf") };
	try {
		writeFileSync(env.CONTAINERS_CONF, CONTAINERS_CONF);
		writeFileSync(podman, `#!/bin/sh\nexec podman ${flags.join(" ")} "$@"\n`);
		chmodSync(podman, 0o755);
		const archive = join(directory, "busybox.tar");
		execFileSync(process.execPath, [join(root, "dist/tsvmm.js"), "save", "-o", archive, "busybox"]);
		execFileSync(podman, ["load", "-q", "-i", archive], { env });
		const table = join(directory, "table.json");
		const environment = { IMAGE, NETWORK: "--network slirp4netns" };
		const rows = [...IMAGE_ROWS, ...CREATE_ROWS, ...RUN_ROWS, ...COMMIT_ROWS];
		writeFileSync(table, JSON.stringify({ lines: rows.map(({ line }) => line), environment }));
		const play = [join(folder, "play.mjs"), table, directory, podman];
		const output = execFileSync(process.execPath, play, {
			env,
			encoding: "utf8",
			stdio: ["ignore", "pipe", "inherit"],
		});
		const version = execFileSync(podman, ["--version"], { env, encoding: "utf8" }).trim();
		const answers = JSON.parse(output.replaceAll(directory, "DIR"));
		writeFileSync(join(folder, "answers.json"), `${JSON.stringify({ version, answers }, undefined, "\t")}\n`);
		say("record-podman", `${answers.length} answers of ${version}`);
	} finally {
		execFileSync(podman, ["rm", "-af"], { env, stdio: "ignore" });
		rmSync(directory, { recursive: true, force: true });
	}
}

await main("record-podman", record);

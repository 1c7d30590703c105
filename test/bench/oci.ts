/*
 * A container of podman's from beginning to end, with tsvmm-oci and with runc, on the same root file system in the lab: in
 * machines that boot (cold), and in those of a template (warm).
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cacheDirectory } from "../../src/host/directories.ts";
import { packageRoot } from "../../src/host/native.ts";
import { Lab } from "../../src/lab/lab.ts";
import { inLab } from "./lab-host.ts";
import { type BenchRow, timeRow } from "./row.ts";

const TIMEOUT_MS = 600_000;
const HOME = "/run/oci-bench";

/** How much is done. */
export interface OciWork {
	/** How often each is repeated after the first time, which fills the caches; the best counts. */
	readonly rounds: number;
}

const program = (name: string) => join(packageRoot(), `dist/${name}.js`);

/** podman's storage is in the lab's RAM, as its control groups and networks are the lab's own. */
const PRELUDE = `
	set -e
	export XDG_RUNTIME_DIR=/run
	mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount --make-rshared /
	mkdir -p ${HOME}/rootfs/bin ${HOME}/networks
	cp /usr/bin/busybox ${HOME}/rootfs/bin/true
	ln -s true ${HOME}/rootfs/bin/sleep
	storage="--root ${HOME}/storage --runroot ${HOME}/runroot --tmpdir ${HOME}/tmp --storage-driver vfs"
	for warm in 0 1; do
		wrapper=${HOME}/tsvmm-oci.$warm
		# podman keeps only a few variables for its runtimes.
		printf '#!/bin/sh\nTSVMM_CACHE=${cacheDirectory()} TSVMM_WARM=%s exec ${process.execPath} ${program("tsvmm-oci")} "$@"\n' $warm >$wrapper
		chmod +x $wrapper
	done
	${process.execPath} ${program("tsvmm")} template make
	podman="podman $storage --cgroup-manager cgroupfs --network-config-dir ${HOME}/networks"
	measure() {
		name=$1; shift
		start=$(date +%s%N)
		"$@" >/dev/null
		end=$(date +%s%N)
		echo "@@$name $(((end - start) / 1000))@@"
	}`;

function script({ rounds }: OciWork): string {
	return `${PRELUDE}
		for round in $(seq 0 ${rounds}); do
			for runtime in runc ${HOME}/tsvmm-oci.0 ${HOME}/tsvmm-oci.1; do
				short=$(basename $runtime)
				measure $short.run $podman --runtime $runtime run --rm --network none --rootfs ${HOME}/rootfs true
				$podman --runtime $runtime run -d --name c --network none --rootfs ${HOME}/rootfs sleep 1000 >/dev/null
				measure $short.exec $podman exec c true
				$podman rm -f -t 0 c >/dev/null
			done
		done`;
}

/** `podman run` and `podman exec` of `true`. */
export async function benchOci(work: OciWork): Promise<BenchRow[]> {
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-bench-"));
	const lab = await Lab.up({ name: "bench" });
	try {
		const output = await inLab(lab, script(work), directory, TIMEOUT_MS);
		const best = (name: string) => {
			const all = [...output.matchAll(new RegExp(`@@${name} (\\d+)@@`, "g"))].map(([, us]) => Number(us) / 1000);
			if (all.length === 0) throw new Error(`the lab has not measured ${name}:\n${output}`);
			return Math.min(...all);
		};
		const row = (what: string, part: string, warm: 0 | 1) => {
			const ours = best(`tsvmm-oci.${warm}.${part}`);
			return timeRow(`podman ${what}`, "ms", ours, best(`runc.${part}`), "runc, no VM, in the lab");
		};
		return [row("run --rm true, cold", "run", 0), row("run --rm true, warm", "run", 1), row("exec true", "exec", 1)];
	} finally {
		await lab.down();
		rmSync(directory, { recursive: true, force: true });
	}
}

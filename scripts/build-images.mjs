/*
 * Makes the demo and test images that the store lacks: node scripts/build-images.mjs [busybox] [debian-tools]
 * The recipes are in guests/images.
 */
import { register } from "tsx/esm/api";

register();
const { ensureDemoImage } = await import("../guests/images/demo.ts");
const { reportError } = await import("../src/cli/report.ts");

const wanted = process.argv.length > 2 ? process.argv.slice(2) : ["busybox", "debian-tools"];
try {
	for (const name of wanted) {
		if (name !== "busybox" && name !== "debian-tools") throw new Error(`no recipe for image ${name}`);
		const began = performance.now();
		const reference = await ensureDemoImage(name, { say: (line) => process.stderr.write(`${line}\n`) });
		process.stdout.write(`${reference} ${((performance.now() - began) / 1000).toFixed(1)} s\n`);
	}
} catch (error) {
	process.exitCode = reportError(error);
}

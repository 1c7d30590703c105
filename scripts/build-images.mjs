/*
 * Makes the demo and test images that the store lacks: node scripts/build-images.mjs [NAME...]
 * The recipes are in guests/images.
 */
import { register } from "tsx/esm/api";

register();
const { DEMO_IMAGES, ensureDemoImage } = await import("../guests/images/demo.ts");
const { reportError } = await import("../src/cli/report.ts");

const wanted = process.argv.length > 2 ? process.argv.slice(2) : DEMO_IMAGES;
try {
	for (const name of wanted) {
		if (!DEMO_IMAGES.includes(name)) throw new Error(`no recipe for image ${name}`);
		const began = performance.now();
		const reference = await ensureDemoImage(name, { say: (line) => process.stderr.write(`${line}\n`) });
		process.stdout.write(`${reference} ${((performance.now() - began) / 1000).toFixed(1)} s\n`);
	}
} catch (error) {
	process.exitCode = reportError(error);
}

/*
 * A container in a microVM: its input, its output, its exit status, and a second process in it. It needs an image: `npm
 * run images` makes busybox, `tsvmm image import` imports your own. The first run fetches the kernel.
 */
import { text } from "node:stream/consumers";
import { runContainer } from "tsvmm";

/* Resolves when the container's process runs. The machine ends with this block, also after an error. */
await using container = await runContainer({
	image: "busybox",
	args: ["sh", "-c", "echo Hello from $(uname -s), process $$; tr a-z A-Z; exit 3"],
	hostname: "box",
	memoryMiB: 256,
	stdin: "pipe",
});

/* A second process, while the first one waits for its input. */
const other = await container.exec({ args: ["hostname"] });
console.log(`exec: ${(await text(other.stdout)).trim()}`, await other.exit);

container.stdin.end("and from its host\n");
process.stdout.write(await text(container.stdout));
console.log(await container.exit);

/* Expected output:
exec: box { code: 0 }
Hello from Linux, process 1
AND FROM ITS HOST
{ code: 3 }
*/

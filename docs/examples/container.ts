/*
 * A container in a microVM of its own: its input, its output, its exit status, and a second process in it. It needs an
 * image (`npm run images` makes busybox, `tsvmm image import` takes one's own); the kernel is fetched at the first run.
 */
import { text } from "node:stream/consumers";
import { runContainer } from "tsvmm";

/* Resolves when the container's process runs. At the end of this block the machine is gone, whatever has happened. */
await using container = await runContainer({
	image: "busybox",
	args: ["sh", "-c", "echo Hello from $(uname -s), process $$; tr a-z A-Z; exit 3"],
	hostname: "box",
	memoryMiB: 256,
	stdin: "pipe",
});

/* One more process, while the first waits for its input. */
const other = await container.exec({ args: ["hostname"] });
console.log(`exec: ${(await text(other.stdout)).trim()}`, await other.exit);

container.stdin.end("and from its host\n");
process.stdout.write(await text(container.stdout));
console.log(await container.exit);

/* Expected output:
exec: box { code: 0 }
Hello from Linux, process 2
AND FROM ITS HOST
{ code: 3 }
*/

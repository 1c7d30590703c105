/*
 * A page of another origin that knows the inspector's address and its token, and tries to reach it. It leaves the names
 * of what has worked in its title. The address of the inspector is in the fragment of its own.
 */
const { origin, hash } = new URL(decodeURIComponent(location.hash.slice(1)));
const headers = { Authorization: `Bearer ${hash.slice(1)}` };

/** Fails unless the event "load" comes. */
function loads(element) {
	return new Promise((resolve, reject) => {
		element.onload = resolve;
		element.onerror = () => reject(new Error("refused"));
		document.body.append(element);
	});
}

const tries = {
	page: () => fetch(`${origin}/`),
	"opaque file": () => fetch(`${origin}/main.js`, { mode: "no-cors" }),
	"action with the token": () => fetch(`${origin}/api/pause`, { method: "POST", headers }),
	"simple action": () => fetch(`${origin}/api/pause`, { method: "POST", mode: "no-cors" }),
	module: () => import(`${origin}/format.js`),
	script: () => loads(Object.assign(document.createElement("script"), { src: `${origin}/format.js` })),
	picture: () => loads(Object.assign(document.createElement("img"), { src: `${origin}/icon.svg` })),
	socket: () =>
		new Promise((resolve, reject) => {
			const socket = new WebSocket(`${origin.replace("http", "ws")}/api/stream`);
			socket.onopen = resolve;
			socket.onerror = () => reject(new Error("refused"));
		}),
};

const reached = [];
for (const [name, attempt] of Object.entries(tries)) {
	await attempt().then(
		() => reached.push(name),
		() => undefined,
	);
}
const frame = Object.assign(document.createElement("iframe"), { src: `${origin}/${hash}` });
await loads(frame);
document.title = `reached: ${reached.join(", ") || "nothing"}`;

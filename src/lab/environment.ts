/*
 * The environment of programs in the lab: the host's, without what is of no use there.
 */

/** Variables that name something of the host that the lab does not have, or that slow down the start of programs. */
const DROPPED =
	/^(?:XDG_RUNTIME_DIR|DBUS_.*|SSH_.*|DISPLAY|WAYLAND_DISPLAY|LD_PRELOAD|NODE_EXTRA_CA_CERTS|NODE_CHANNEL_.*|NODE_V8_COVERAGE|OLDPWD|_|TSVMM_LAB.*|TSVMM_HOST|TSVMM_RUNTIME)$/;

/** tsvmm starts no second lab in the lab. Its sockets are in /run, because 9p has no unix sockets. */
const IN_LAB = { TSVMM_HOST: "direct", TSVMM_LAB: "1", TSVMM_RUNTIME: "/run/tsvmm" };

/** The environment of a program in the lab, made from one of the host. */
export function labEnvironment(host: NodeJS.ProcessEnv): Record<string, string> {
	const env: Record<string, string> = {};
	for (const [key, value] of Object.entries(host)) {
		if (value !== undefined && !DROPPED.test(key)) env[key] = value;
	}
	return { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", ...env, ...IN_LAB };
}
